"""Fetches the wheels that `check.py` needs on a Linux machine that has PyTorch and torchvision, and no network.

`make gpu-wheels`. They are those of wheels.txt, in the versions of requirements/locked.txt, for each of the Pythons:
less than 40 MB.

    python tests/gpu/wheels.py [--out build/gpu-wheels] [--pythons 3.11,3.12] [--machine x86_64]
"""

import argparse
import platform
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LOCK = ROOT / "requirements" / "locked.txt"
GLIBC = range(5, 40)  # minor versions that a wheel may ask for; pip takes those that it is told, and no older ones


def names() -> list[str]:
    return (HERE / "wheels.txt").read_text().split()


def locked() -> list[str]:
    """Names with their versions, as pip takes them."""
    versions = dict(re.findall(r"^([\w.-]+)==(\S+)", LOCK.read_text(), re.MULTILINE))
    return [f"{name}=={versions[name]}" for name in names()]


def download(wheels: list[str], out: Path, python: str, machine: str) -> None:
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC] + [f"manylinux2014_{machine}"]
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                    "--only-binary=:all:", "--implementation", "cp", "--python-version", python, "--dest", str(out),
                    *(f"--platform={each}" for each in platforms), *wheels], check=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu-wheels", help="folder of the wheels")
    parser.add_argument("--pythons", default="3.11,3.12", help="with commas between")
    parser.add_argument("--machine", default=platform.machine(), help="the processor's kind")
    arguments = parser.parse_args(argv)
    for python in arguments.pythons.split(","):
        download(locked(), arguments.out, python, arguments.machine)
    files = list(arguments.out.glob("*.whl"))
    print(f"{len(files)} wheels of {sum(file.stat().st_size for file in files) / 1e6:.0f} MB in {arguments.out}")


if __name__ == "__main__":
    main()
