"""Hostile inputs, one process each: what an input did, and whether that is what it may do.

Every input has a folder of its own, and a process forked from one that has imported everything. There a public command
or function is called on it. Whatever it is, afterwards nothing of it has been executed, no file beside its folder is
touched, nothing on the terminal steers the terminal, no traceback is printed, and it ended by itself. Beyond that an
input is *refused*, with one sentence and an exit code, or *harmless*: the result is the one without it.
"""

import contextlib
import faulthandler
import hashlib
import os
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT = 60.0  # seconds of one input; what takes longer hangs
MEMORY = 16 * 2**30  # bytes of address space
REFUSED, HARMLESS = "refused", "harmless"
CANARY = "EXECUTED"  # what code in an input would leave beside its folder
STEERING = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Hostile:
    """An input.

    Attributes:
        kind: what it pretends to be, such as "record".
        name: what is wrong with it.
        write: puts it into its folder.
        act: what a user would do with it: the words of a command, or a function of the folder, whose result counts.
        harmless: given the folder and what was printed or returned, what was poisoned, or None; None: the input must be
            refused.
        must_work: it is odd, but a user's right: to refuse it is a fault.
    """

    kind: str
    name: str
    write: Callable[[Path], Any]
    act: Callable[[Path], Any]
    harmless: Callable[[Path, Any], str | None] | None = None
    must_work: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of an input: `REFUSED` or `HARMLESS`, the last line that was printed, and what is wrong, or None."""

    kind: str
    name: str
    came: str
    said: str
    fault: str | None


def payload(folder: Path) -> str:
    """A shell command that leaves the canary beside an input's folder."""
    return f"touch {folder.parent / CANARY}"


def command(*words: str) -> Callable[[Path], str]:
    """Calls `pfedmoap`; "{}" in a word is the input's folder. What it printed on standard output is the result."""

    def act(folder: Path) -> None:
        from pfedmoap.commands.app import main

        main([word.replace("{}", str(folder)) for word in words])

    return act


def examine(hostile: Hostile, at: Path, limit: float = LIMIT) -> Outcome:
    """Tries one input in a new folder `at`, which is removed again."""
    folder = at / "input"
    folder.mkdir(parents=True)
    (at / "secret.txt").write_text("SECRET-OF-ANOTHER")
    try:
        hostile.write(folder)
        before = _beside(at)
        status = _in_process(hostile, folder, limit)
        printed = (at / "printed").read_bytes().decode(errors="replace")
        complained = (at / "complained").read_bytes().decode(errors="replace")
        fault, came = _judge(hostile, folder, status, printed, complained)
        if _beside(at) != before:
            fault = "it was executed" if (at / CANARY).exists() else "files beside its folder changed"
    finally:
        shutil.rmtree(at, ignore_errors=True)
    lines = [line for line in complained.replace("\r", "\n").splitlines() if line.strip()]
    said = lines[-1].replace(str(folder), "FOLDER").replace(str(at), "BESIDE") if lines else ""
    return Outcome(hostile.kind, hostile.name, came, STEERING.sub("?", said)[:200], fault)


def examine_all(inputs: Iterable[Hostile], at: Path) -> Iterator[Outcome]:
    for number, hostile in enumerate(inputs):
        yield examine(hostile, at / str(number))


def _judge(hostile: Hostile, folder: Path, status: int | None, printed: str, complained: str) -> tuple[str | None, str]:
    """What is wrong, or None, and what came."""
    if status is None:
        return "it hangs", ""
    if status < 0:
        return f"it ends the process by signal {-status}", ""
    text = (printed + complained).replace("\x1b[A", "")  # by which progress bars go up a line
    if "Traceback (most recent call last)" in text:
        return "a traceback", ""
    if "SECRET-OF-ANOTHER" in text:
        return "another's file is shown", ""
    if steering := STEERING.search(text):
        return f"the terminal is sent {steering[0]!a}", ""
    if status:
        errors = [line for line in complained.splitlines() if line.startswith("error: ")]
        if status not in (1, 2) or not (errors or printed):  # `pfedmoap data` lists problems in its table
            return f"exit code {status} without a sentence", REFUSED
        return ("it is refused, but is a user's right" if hostile.must_work else None), REFUSED
    if hostile.harmless is None:
        return "it is believed", HARMLESS
    return hostile.harmless(folder, printed), HARMLESS


def _in_process(hostile: Hostile, folder: Path, limit: float) -> int | None:
    """The exit status of a child that acts on the input; negative: the signal that ended it; None: it was stopped."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.setpgid(0, 0)
            faulthandler.disable()  # pytest's, which would show a planted weakness to whoever runs the tests
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            for name, number in (("printed", 1), ("complained", 2)):
                os.dup2(os.open(folder.parent / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            # As a program has them: whoever calls this may have others in their place, as pytest has.
            sys.stdout = open(1, "w", encoding="utf-8", closefd=False)
            sys.stderr = open(2, "w", encoding="utf-8", closefd=False, errors="backslashreplace")
            os.chdir(folder)
            status = _act(hostile, folder)
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(status)
    ends = time.monotonic() + limit
    while time.monotonic() < ends:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _act(hostile: Hostile, folder: Path) -> int:
    from pfedmoap.errors import PfedmoapError

    try:
        result = hostile.act(folder)
        if result is not None:
            print(result)
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except PfedmoapError as error:  # of a function that a user calls in a notebook
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BaseException:
        traceback.print_exc()
        return 70
    return 0


def _beside(at: Path) -> dict[str, str]:
    """What lies beside the input's folder."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in at.iterdir()
        if path.is_file() and path.name not in ("printed", "complained")
    }
