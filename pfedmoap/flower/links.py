"""Flower's long-running processes: started with private folders, and stopped with all that they started."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from pfedmoap.errors import PfedmoapError, UserError
from pfedmoap.system import PRIVATE_FILE, private_folder

LOOPBACK = "127.0.0.1"
GRACE = 5.0  # seconds between asking a process to end and ending it
PR_SET_PDEATHSIG = 1  # of Linux
EXECUTOR = "flower-superexec"  # the program by which SuperLink and SuperNodes start apps
START = 300.0  # seconds that a server may take until it listens; on a busy machine more than 60 were seen
FREED = 60.0  # seconds that a killed one may take until it leaves its port


class Links:
    """Processes that end when this does, on Ctrl-C and on failure too.

    Args:
        folder: of Flower's own files and of the logs; readable by its owner only.
    """

    def __init__(self, folder: Path):
        self.folder = private_folder(folder)
        self.logs = private_folder(folder / "logs")
        self.running: dict[str, subprocess.Popen] = {}
        self._seen: set[tuple[str, str]] = set()
        self._overlooked: set[psutil.Process] = set()
        self._on_sigterm: Any = None

    def __enter__(self) -> "Links":
        self._on_sigterm = signal.signal(signal.SIGTERM, _interrupt)
        return self

    def __exit__(self, *_) -> None:
        self.stop(*self.running)
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def start(self, name: str, command: Sequence[str], **variables: str) -> None:
        """Starts a process in a group of its own; what it says goes to logs/NAME.log."""
        path = self.logs / f"{name}.log"
        self._seen = {(other, program) for other, program in self._seen if other != name}
        with open(path, "ab", opener=lambda file, flags: os.open(file, flags, PRIVATE_FILE)) as file:
            self.running[name] = subprocess.Popen(
                [_program(command[0]), *command[1:]], env=self.environment(**variables), cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=END_WITH_PARENT)

    def call(self, command: Sequence[str]) -> str:
        """Runs a short command; its standard output.

        Raises:
            PfedmoapError: it failed.
        """
        done = subprocess.run([_program(command[0]), *command[1:]], env=self.environment(), cwd=self.folder,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, preexec_fn=END_WITH_PARENT)
        if done.returncode:
            raise PfedmoapError(f"{' '.join(command[:3])} failed: {(done.stderr or done.stdout).strip()[-500:]}")
        return done.stdout

    def environment(self, **variables: str) -> dict[str, str]:
        """That of this process, with this Python's programs, without telemetry, and with one thread each."""
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        own = {"PATH": programs, "FLWR_HOME": str(self.folder / "flwr"), "FLWR_TELEMETRY_ENABLED": "0",
               "FLWR_DISABLE_UPDATE_CHECK": "1", "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        return os.environ | own | variables

    def wait_for(self, name: str, host: str, port: int) -> None:
        """Until the process listens.

        Raises:
            PfedmoapError: it ended or takes too long; with the end of its log.
        """
        self.wait_until(lambda: listens(host, port), [name], START)

    def wait_until(self, done: Callable[[], bool], needed: Sequence[str], seconds: float) -> None:
        """Until something is so, as long as the processes that are needed for it run."""
        until = time.monotonic() + seconds
        while not done():
            for name in needed:
                if self.running[name].poll() is not None:
                    raise PfedmoapError(f"{name} ended with code {self.running[name].returncode}: {self.tail(name)}")
            if time.monotonic() > until:
                raise PfedmoapError(f"{', '.join(needed)} took more than {seconds:.0f} s: {self.tail(needed[0])}")
            time.sleep(0.2)

    def lost(self, name: str, *programs: str) -> str | None:
        """Which program has ended: the process's own, or of those that it started one that was seen here before.

        Flower's processes do not miss each other: without its executor a node waits for answers for ever.
        """
        if self.running[name].poll() is not None:
            return name
        running = set().union(*map(_words, set(_family(self.running[name])) - self._overlooked))
        for program in programs:
            if program in running:
                self._seen.add((name, program))
            elif (name, program) in self._seen:
                return program
        return None

    def overlook(self, name: str, program: str) -> None:
        """Those of a program that a process has started until now are not missed in `lost`; later ones are."""
        self._seen.discard((name, program))
        self._overlooked |= {member for member in _family(self.running[name]) if program in _words(member)}

    def tail(self, name: str, letters: int = 800) -> str:
        """The end of a log."""
        path = self.logs / f"{name}.log"
        return f"{path} ends with\n{path.read_text(errors='replace').strip()[-letters:]}"

    def kill(self, name: str) -> None:
        """Ends a process and all that it started at once, as a power cut would."""
        _end(_family(self.running.pop(name)))

    def stop(self, *names: str) -> None:
        """Asks the processes to end, and ends them and all that they started."""
        stopping = [self.running.pop(name) for name in names]
        families = [member for process in stopping for member in _family(process)]
        for process in stopping:
            process.terminate()
        psutil.wait_procs(families, GRACE)
        _end(families)
        for process in stopping:
            process.wait()


def listens(host: str, port: int) -> bool:
    """Whether anything listens there."""
    with suppress(OSError), socket.create_connection((host, port), 1):
        return True
    return False


def wait_until_free(host: str, port: int) -> None:
    """Until nothing listens there: a killed server's processes take seconds to end.

    Raises:
        UserError: something else has the port.
    """
    until = time.monotonic() + FREED
    while listens(host, port):
        if time.monotonic() > until:
            raise UserError(f"Another program listens on {host}:{port}: end it, perhaps another server of this folder, "
                            f"or choose another folder.")
        time.sleep(0.2)


def free_port(host: str) -> int:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        return listener.getsockname()[1]


def require_flower() -> None:
    """
    Raises:
        UserError: Flower is not installed.
    """
    try:
        import flwr.serverapp  # noqa: F401
    except ImportError as error:
        raise UserError("Flower is not installed, which a real federation runs on: pip install "
                        "'pfedmoap[federated]'") from error


def _program(name: str) -> str:
    own = Path(sys.executable).parent / name
    return str(own) if own.exists() else shutil.which(name) or name


def _interrupt(*_) -> None:
    raise KeyboardInterrupt  # so that everything is stopped, as on Ctrl-C


def _end_with_parent() -> None:
    """Has Linux end this process when its parent is gone, killed without a chance to end it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


END_WITH_PARENT = _end_with_parent if sys.platform == "linux" else None


def _family(process: subprocess.Popen) -> list[psutil.Process]:
    """A process and all that it started; Flower gives some of them groups of their own."""
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(process.pid)
        return [first, *first.children(recursive=True)]
    return []


def _words(process: psutil.Process) -> set[str]:
    """The words of its command line without folders; of a process that has ended none."""
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return {Path(word).name for word in process.cmdline()}
    return set()


def _end(family: Sequence[psutil.Process]) -> None:
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family, GRACE)
