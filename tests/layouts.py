"""Small data sets on disk, in exactly the layouts that people have."""

import io
import pickle
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pfedmoap.data.catalog.domains import Domains


def write_image(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade % 256, 2 * shade % 256, 90)).save(path)


def write_images(folder: Path, files: Iterable[str]) -> None:
    for shade, file in enumerate(files):
        write_image(folder / file, shade)


def write_classes(folder: Path, counts: dict[str, int]) -> None:
    """One folder per class with image_0001.jpg and so on."""
    write_images(folder, [f"{name}/image_{k:04d}.jpg" for name, count in counts.items() for k in range(1, count + 1)])


class _Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its str."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_str_of_python2(self, text: bytes) -> None:
        short = len(text) < 256
        self.write((b"U" + bytes([len(text)]) if short else b"T" + struct.pack("<i", len(text))) + text)
        self.memoize(text)

    dispatch[bytes] = save_str_of_python2


def write_python2_pickle(path: Path, content: Any) -> None:
    """A pickle like CIFAR's: protocol 2, byte strings, and numpy's old module name."""
    stream = io.BytesIO()
    _Python2Pickler(stream, protocol=2).dump(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(stream.getvalue().replace(b"cnumpy._core.multiarray", b"cnumpy.core.multiarray"))


def write_cifar_batch(path: Path, labels: list[int], key: bytes, seed: int) -> np.ndarray:
    """One of CIFAR's batches of random pixels; returns them as images, (n, 32, 32, 3)."""
    data = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    write_python2_pickle(path, {b"batch_label": b"some batch", key: labels, b"data": data, b"filenames": [b"a.png"]})
    return data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def files_of(what: Domains, count: int) -> list[str]:
    """So many images of every class in every domain."""
    return [f"{d}/{c}/{d}_{k:03d}.jpg" for d in what.domains for c in what.classes for k in range(count)]


def write_pickles(what: Domains, root: Path, folder: str, protocol: int = 4, dtype: type = object) -> None:
    """FedBN's lists of `files_of(what, 3)`, in mixed order: image 0 of every class is for testing."""
    for domain in what.domains:
        own = [file for file in files_of(what, 3) if file.startswith(domain)]
        own = np.random.default_rng(0).permutation(own)
        for part in ("train", "test"):
            files = [file for file in own if file.endswith("_000.jpg") == (part == "test")]
            arrays = (
                np.array([f"{folder}/{f}" for f in files], dtype),
                np.array([f.split("/")[1] for f in files], dtype),
            )
            (root / folder / f"{domain}_{part}.pkl").write_bytes(pickle.dumps(arrays, protocol=protocol))
