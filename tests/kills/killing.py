"""SIGKILL, at random moments or before a chosen write, as often as it takes until the work ends by itself."""

import itertools
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

PROCESSES = multiprocessing.get_context("forkserver")
WRITES = os.O_WRONLY | os.O_RDWR


def kill_until_done(work: Callable, folder: str, *arguments, seconds: float, moments: random.Random,
                    after_kill: Callable[[], None] = lambda: None) -> int:  # fmt: skip
    """Starts the work in a folder again and again and kills it, with all that it started.

    A third of the kills come at a moment of its first so many seconds, the others of the first so many after it has
    begun to write, so that it makes progress however slow the machine is.

    Returns:
        The number of kills until it ended by itself.
    """
    for kills in itertools.count():
        before = content(folder)
        process = start(work, folder, *arguments)
        if moments.random() < 2 / 3:
            wait_for_change(process, folder, before)
        process.join(moments.uniform(0, seconds))
        if process.exitcode is not None:
            assert process.exitcode == 0
            return kills
        kill_all(process.pid)
        process.join()
        after_kill()


def content(folder: str) -> set[tuple[str, int, int]]:
    """The files of a folder, locks apart, with time and size."""
    found = set()
    for path in Path(folder).rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file() and not path.name.endswith(".lock"):
                found.add((str(path), path.stat().st_mtime_ns, path.stat().st_size))
    return found


def wait_for_change(process, folder: str, before: set) -> None:
    while process.exitcode is None and content(folder) == before:
        time.sleep(0.005)


def start(work: Callable, *arguments):
    """A process that has imported everything, in a group of its own."""
    ours, theirs = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=_work, args=(theirs, work, *arguments))
    process.start()
    theirs.close()  # so that its death is an error here
    assert ours.recv() == "ready"
    return process


def finish(work: Callable, folder: str, *arguments) -> float:
    """Has the work done without a kill; the seconds from its first write to its end."""
    before, process = content(folder), start(work, folder, *arguments)
    wait_for_change(process, folder, before)
    started = time.perf_counter()
    process.join()
    assert process.exitcode == 0
    return time.perf_counter() - started


def killed_before_write(number: int, folder: str, work: Callable, *arguments) -> bool:
    """Has the work killed before it opens for writing, renames or removes a file in a folder for the so manyth time.

    Returns:
        False if it ended before it came so far.
    """
    process = start(_die_before_write, number, folder, work, *arguments)
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def kill_all(pid: int) -> None:
    """A process, its group, and all that it started in other groups: as a power cut would."""
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        first.suspend()  # it starts nothing more
        family = [first, *first.children(recursive=True)]
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()


def timeless(record):
    """A record without what the clock says."""
    rounds = [{name: value for name, value in entry.items() if name != "seconds"} for entry in record["rounds"]]
    return json.dumps(record | {"rounds": rounds, "seconds": None, "sha256": None}, sort_keys=True)


def _work(ready, work: Callable, *arguments) -> None:
    os.setsid()  # a kill of this process's group reaches its workers as well
    ready.send("ready")
    work(*arguments)


def _die_before_write(number: int, folder: str, work: Callable, *arguments) -> None:
    counted = itertools.count(1)

    def on_event(event: str, values: tuple) -> None:
        writes = event in ("os.rename", "os.remove", "os.truncate") or event == "open" and values[2] & WRITES
        if writes and str(values[0]).startswith(folder) and next(counted) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(on_event)
    work(*arguments)
