"""Processor cores: how many there are, and how processes that know nothing of each other share them."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

SHARED = "PFEDMOAP_CORES"  # "NUMBER FOLDER", for a process and its descendants
POLL_SECONDS = 0.02


def count() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share(number: int, folder: Path) -> dict[str, str]:
    """The environment of processes that are to compute on so many cores together; `folder` holds their locks."""
    return {SHARED: f"{number} {folder}"}


@contextmanager
def one() -> Iterator[None]:
    """Waits for one of the cores that this process shares with others, and holds it. Without sharing, it does nothing.

    A core is a lock on a file. The system gives it back when a process is killed.
    """
    number, _, folder = os.environ.get(SHARED, "").partition(" ")
    if not number:
        yield
        return
    lock = _first_free([FileLock(Path(folder, f"core-{core}.lock")) for core in range(int(number))])
    try:
        yield
    finally:
        lock.release()


def _first_free(locks: list[FileLock]) -> FileLock:
    while True:
        for lock in locks:
            try:
                lock.acquire(timeout=0)
                return lock
            except Timeout:
                continue
        time.sleep(POLL_SECONDS)
