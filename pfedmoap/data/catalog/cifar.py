"""CIFAR-10 and CIFAR-100: the python batches that torchvision downloads, or a folder of images."""

import hashlib
import json
from pathlib import Path

import numpy as np

from pfedmoap.data import layout
from pfedmoap.data.catalog.pickles import read_pickle
from pfedmoap.data.images import ImageArray
from pfedmoap.data.imageset import ImageSet, Split
from pfedmoap.errors import UserError

SIDE = 32


def cifar10(root: Path) -> ImageSet:
    """Objects and animals: 10 classes."""
    remedy = "download cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html and unpack it there"
    folder = layout.locate("CIFAR-10", root, ("cifar-10-batches-py", "cifar10"), remedy)
    if (folder / "train").is_dir():
        return _from_folders("cifar10", folder)
    batches = [f"data_batch_{number}" for number in range(1, 6)]
    return _from_batches("cifar10", folder, ("batches.meta", "label_names"), batches, ["test_batch"], "labels")


def cifar100(root: Path) -> ImageSet:
    """Objects, animals, plants and people: 100 classes."""
    remedy = "download cifar-100-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html and unpack it there"
    folder = layout.locate("CIFAR-100", root, ("cifar-100-python", "cifar100"), remedy)
    if (folder / "train").is_dir():
        return _from_folders("cifar100", folder)
    return _from_batches("cifar100", folder, ("meta", "fine_label_names"), ["train"], ["test"], "fine_labels")


def _from_folders(name: str, folder: Path) -> ImageSet:
    """`train/<class>/*` and `test/<class>/*`; sorted by name, the classes have CIFAR's own labels."""
    train, test = (layout.class_folders(folder / part) for part in ("train", "test"))
    if list(train) != list(test):
        odd = sorted(set(train) ^ set(test))
        raise UserError(f"{folder} has class {odd[0]!r} only in train or only in test: complete it, then run again")
    entries = [
        [layout.Entry(f"{part}/{path}", label) for label, paths in enumerate(classes.values()) for path in paths]
        for part, classes in (("train", train), ("test", test))
    ]
    return layout.image_set(name, folder, list(train), *entries, f"{folder}, the official split", augment=False)


def _from_batches(
    name: str, folder: Path, names_in: tuple[str, str], train: list[str], test: list[str], labels_in: str
) -> ImageSet:
    """The official python batches; `names_in` is the file with the class names, and their key in it."""
    file, key = names_in
    meta = read_pickle(folder / file)
    with layout.readable(folder / file):
        class_names = tuple(str(class_name).replace("_", " ") for class_name in meta[key])
    digest = hashlib.sha256(json.dumps([name, class_names]).encode())
    splits = []
    for batches in (train, test):
        pixels, labels = zip(
            *(_read_batch(folder / batch, labels_in, len(class_names)) for batch in batches), strict=True
        )
        splits.append(Split(ImageArray(np.concatenate(pixels)), np.concatenate(labels)))
        digest.update(splits[-1].images.pixels)
        digest.update(splits[-1].labels)
    source = f"{folder}, the official split"
    return ImageSet(name, class_names, *splits, fingerprint=digest.hexdigest(), source=source, augment=False)


def _read_batch(path: Path, labels_in: str, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 32, 32, 3) uint8 and labels (n,) int64."""
    batch = read_pickle(path)
    with layout.readable(path):
        pixels = np.ascontiguousarray(batch["data"].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
        labels = np.array(batch[labels_in], dtype=np.int64)
        if pixels.dtype != np.uint8 or len(pixels) != len(labels) or not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError("pixels and labels do not fit together")
    return pixels, labels
