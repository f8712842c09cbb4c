"""A command that survives a kill badly: waits to be killed the first time, and is at fault the second.

    python planted.py FAULT FOLDER [--undisturbed]
"""

import subprocess
import sys
import time
from pathlib import Path

fault, folder = sys.argv[1], Path(sys.argv[2])
if "--undisturbed" not in sys.argv:
    if not (folder / "begun").exists():
        (folder / "begun").touch()
        time.sleep(600)
    (folder / "begun").unlink()
    if fault == "waits for ever":
        time.sleep(600)
    if fault == "ends":
        sys.exit("error: the lock is taken")
    if fault == "speaks of Ctrl-C":
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    if fault == "complains":
        sys.stderr.write("Traceback (most recent call last):\nEOFError\n")
    if fault == "leaves a process":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    if fault == "leaves a file":
        (folder / ".result.part").touch()
if fault != "loses its result" or "--undisturbed" in sys.argv:
    (folder / "result").write_text("41" if fault == "is wrong" and "--undisturbed" not in sys.argv else "42")
