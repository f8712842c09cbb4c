"""Stages that go wrong, for the tests of `check.py`."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from stages import Figure, within


def fails(device: str, pretend: bool) -> Iterator[Figure]:
    yield Figure("before it fails", 1.5, "s")
    raise ValueError(f"nothing works on {device}")


def hangs(device: str, pretend: bool) -> Iterator[Figure]:
    """With a process of its own, whose number it leaves in the folder that it is given as a device."""
    child = subprocess.Popen(["sleep", "600"])
    Path(device, "child").write_text(str(child.pid))
    yield Figure("before it hangs")
    time.sleep(600)


def dies(device: str, pretend: bool) -> Iterator[Figure]:
    yield Figure("before it dies")
    os._exit(9)


def is_wrong(device: str, pretend: bool) -> Iterator[Figure]:
    yield within("what is far off", 0.5, 0.1)
    yield within("what is no number", float("nan"), 0.1)


def is_right(device: str, pretend: bool) -> Iterator[Figure]:
    yield within("what is near", 0.01, 0.1)
