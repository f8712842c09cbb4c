"""A table of features on disk that checks itself: sparse, growable, safe to kill at any moment."""

import io
import logging
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)


class FeatureTable:
    """Features of (view, image) pairs: raw float32 rows, and beside them a CRC-32 per row, 0 where there is no row yet.

    A row is finished when its checksum is right. So a kill loses only the rows that were being computed, and a damaged
    row is noticed. Rows that nobody asked for are holes that take no disk space. Views follow each other: a table gets
    more views without moving what it holds.

    Args:
        folder: where its files are.
        name: their stem.
        shape: (views, images, d), or (views, images, M, d).
    """

    def __init__(self, folder: Path, name: str, shape: tuple[int, ...]):
        self.folder = folder
        self.shape = shape
        self.rows = folder / f"{name}.f32"
        self.checksums = folder / f"{name}.crc32"
        self._lock = FileLock(folder / f"{name}.lock")

    @property
    def row_bytes(self) -> int:
        """Size of one row, the features of one view of one image."""
        return math.prod(self.shape[2:]) * 4

    def features(self) -> np.ndarray:
        """The whole table, in its shape, read-only; rows that are not finished are not defined."""
        return np.memmap(self.rows, np.float32, mode="r", shape=self.shape)

    def check(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reads the images' rows and compares them with their checksums.

        Returns:
            finished: (views, len(indices)) bool, the row is there and what was written.
            damaged: (views, len(indices)) bool, the row was written but is not what was written.
        """
        views, n, *_ = self.shape
        finished, damaged = np.zeros((2, views, len(indices)), dtype=bool)
        if not all(path.is_file() and path.stat().st_size >= size for path, size in self._sizes()):
            return finished, damaged
        stored = np.fromfile(self.checksums, np.uint32, views * n).reshape(views, n)[:, indices]
        features = np.asarray(self.features())
        for view, position in zip(*np.nonzero(stored), strict=True):
            finished[view, position] = _checksum(features[view, indices[position]]) == stored[view, position]
        return finished, (stored != 0) & ~finished

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from writing; waits for the one that does."""
        try:
            self._lock.acquire(timeout=1)
        except Timeout:
            logger.info("waiting for another process that computes the same features (%s)", self.rows)
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def grow(self) -> None:
        """Makes room for all rows; the disk is used only as they are written."""
        for path, size in self._sizes():
            with open(path, "ab") as file:
                if file.tell() < size:
                    file.truncate(size)

    def write(self, jobs: np.ndarray, features: np.ndarray) -> None:
        """Writes the rows of some (view, image) pairs, (m, 2) and (m, ...); their checksums last."""
        n = self.shape[1]
        with open(self.rows, "r+b", buffering=0) as rows, open(self.checksums, "r+b", buffering=0) as checksums:
            for (view, image), row in zip(jobs, features, strict=True):
                _write_all(rows, (view * n + image) * self.row_bytes, row.tobytes())
                _write_all(checksums, (view * n + image) * 4, np.uint32(_checksum(row)).tobytes())

    def _sizes(self) -> tuple[tuple[Path, int], tuple[Path, int]]:
        views, n, *_ = self.shape
        return (self.rows, views * n * self.row_bytes), (self.checksums, views * n * 4)


def _checksum(row: np.ndarray) -> int:
    return zlib.crc32(row) or 1  # 0 says that there is no row


def _write_all(file: io.RawIOBase, offset: int, data: bytes) -> None:
    """Writes all of `data`; a disk that runs full raises OSError instead of writing a part."""
    file.seek(int(offset))
    while data:
        data = data[file.write(data) :]
