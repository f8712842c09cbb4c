"""What the feature cache holds: a list of its tables for people, and their removal."""

import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from pfedmoap.errors import UserError
from pfedmoap.system import read_json, write_atomically

FOLDER = re.compile(r"(?P<dataset>.+)-(?P<data>[0-9a-f]{12})")
TABLE = re.compile(
    r"(?P<clip>[0-9a-f]{12})-(?P<split>train|test)(-views-seed(?P<seed>\d+))?(?P<cifar>-cifar)?"
    r"(?P<spatial>-spatial)?\.f32"
)


@dataclass(frozen=True)
class CachedTable:
    """A table of features.

    Attributes:
        path: its rows; the checksums and the lock lie beside it.
        dataset, data: the data set's name, and the first 12 digits of its fingerprint.
        backbone: model and weights that made it, if they are known, and the first digits of their fingerprint.
        split: "train" or "test".
        kind: "test view", "training views, seed 1", "test view, spatial", ...
        rows: finished ones, of all views together.
        size: bytes on disk.
        modified: when a row was written last.
    """

    path: Path
    dataset: str
    data: str
    backbone: str
    split: str
    kind: str
    rows: int
    size: int
    modified: datetime


def cached_tables(cache_dir: str | Path) -> list[CachedTable]:
    """All tables in the cache, by data set; files that are not the cache's are left out."""
    found = []
    for path in sorted(Path(cache_dir).glob("*/*.f32")):
        folder, table = FOLDER.fullmatch(path.parent.name), TABLE.fullmatch(path.name)
        if folder and table:
            with suppress(OSError):  # another process may have removed it meanwhile
                found.append(_describe(path, folder, table))
    return found


def prune(chosen: Iterable[CachedTable]) -> int:
    """Removes tables from the disk; returns the bytes that are free again.

    Raises:
        UserError: a table is being written, or may not be removed.
    """
    freed = 0
    for table in chosen:
        stem = table.path.with_suffix("")
        try:
            with FileLock(stem.with_suffix(".lock"), timeout=0):
                for suffix in (".crc32", ".f32"):  # without its checksums no row counts, should this be cut short
                    stem.with_suffix(suffix).unlink(missing_ok=True)
            stem.with_suffix(".lock").unlink(missing_ok=True)
            _drop_if_empty(table.path.parent)
        except Timeout:
            raise UserError(f"{table.path} is being written by another process: wait for it or end it") from None
        except OSError as error:
            raise UserError(f"{table.path} cannot be removed ({error.strerror}): change its permissions") from error
        freed += table.size
    return freed


def write_backbone(folder: Path, fingerprint: str, model: str, weights: str) -> None:
    """Notes which CLIP has a fingerprint, as the tables' names hold the fingerprint alone."""
    path = folder / f"{fingerprint[:12]}.json"
    if not path.is_file():
        noted = {"model": model, "weights": weights, "fingerprint": fingerprint}
        write_atomically(path, json.dumps(noted).encode())  # half a note would stay


def _describe(path: Path, folder: re.Match, table: re.Match) -> CachedTable:
    stat = os.stat(path)
    checksums = np.fromfile(path.with_suffix(".crc32"), np.uint32)
    kind = "test view" if table["seed"] is None else f"training views, seed {table['seed']}"
    return CachedTable(
        path=path,
        dataset=folder["dataset"],
        data=folder["data"],
        backbone=_backbone(path.parent, table["clip"]),
        split=table["split"],
        kind=kind + ", CIFAR's mean and std" * bool(table["cifar"]) + ", spatial" * bool(table["spatial"]),
        rows=int(np.count_nonzero(checksums)),
        size=getattr(stat, "st_blocks", stat.st_size // 512) * 512,  # rows that nobody asked for take no space
        modified=datetime.fromtimestamp(stat.st_mtime),
    )


def _backbone(folder: Path, clip: str) -> str:
    try:
        noted = read_json(folder / f"{clip}.json")
        shipped = noted["weights"] == f"{noted['model']}.safetensors"
        return " ".join([noted["model"], *[noted["weights"]] * (not shipped), clip[:6]])
    except (OSError, ValueError, KeyError, TypeError):
        return clip


def _drop_if_empty(folder: Path) -> None:
    """Removes a folder in which no table is left, with the notes on who made them."""
    if not any(folder.glob("*.f32")) and not any(folder.glob("*.lock")):
        for note in folder.glob("*.json"):
            note.unlink(missing_ok=True)
        with suppress(OSError):  # something else is in it
            folder.rmdir()
