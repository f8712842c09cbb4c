"""From folders, lists and split files on disk to an `ImageSet`."""

import hashlib
import itertools
import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from pfedmoap.data.images import ImageFiles
from pfedmoap.data.imageset import ImageSet, Split
from pfedmoap.errors import UserError
from pfedmoap.randomness import generator
from pfedmoap.system import is_plain

SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
SPLIT_SEED = 0


class Entry(NamedTuple):
    """One image: its path relative to the set's folder (with "/"), label, and domain and client where there are any."""

    path: str
    label: int
    domain: int = 0
    client: int = 0


def locate(title: str, root: Path, layouts: Sequence[str], remedy: str) -> Path:
    """The first of `layouts` that exists under the root, or that the root itself is or lies inside.

    Args:
        title: the data set's name, for the error.
        root: the folder given by the user.
        layouts: paths such as "caltech-101/101_ObjectCategories"; a root that ends in "caltech-101" is understood too.
        remedy: where to get the data.
    """
    for layout in layouts:
        parts = Path(layout).parts
        for given in range(len(parts) + 1):  # how many leading parts of the layout the root itself already contains
            if given and root.absolute().parts[-given:] != parts[:given]:
                continue
            folder = root.joinpath(*parts[given:])
            if folder.is_dir():
                return folder
    raise UserError(f"{title} was not found under {root} (looked for {' and '.join(layouts)}): {remedy}")


def class_folders(folder: Path, skip: Collection[str] = ()) -> dict[str, list[str]]:
    """The images of every class folder, both sorted by name: {class folder: [relative path, ...]}.

    Raises:
        UserError: there is no class folder, or one without images.
    """
    folders = sorted(entry.name for entry in os.scandir(folder) if is_folder(entry) and not entry.name.startswith("."))
    classes = {name: images_in(folder, name) for name in folders if name not in skip}
    if not classes:
        raise UserError(f"{folder} has no class folders: unpack the images there, one folder per class")
    return classes


def images_in(folder: Path, name: str) -> list[str]:
    """The images of one class folder, sorted, as paths relative to `folder`."""
    if not (folder / name).is_dir():
        raise UserError(f"the class folder {folder / name} is missing: unpack the whole archive again")
    files = sorted(entry.name for entry in os.scandir(folder / name) if is_image(entry))
    if not files:
        raise UserError(f"the class folder {folder / name} has no images: fill it or remove it, then run again")
    return [f"{name}/{file}" for file in files]


def is_folder(entry: os.DirEntry) -> bool:
    return os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()  # a link that leads to itself is no folder


def is_image(entry: os.DirEntry) -> bool:
    if entry.name.startswith(".") or os.path.splitext(entry.name)[1].lower() not in SUFFIXES:
        return False
    return os.path.isfile(entry) if entry.is_symlink() else entry.is_file()


def listed(classes: dict[str, list[str]]) -> list[Entry]:
    """The entries of {class: [path, ...]}, whose classes are in label order."""
    return [Entry(path, label) for label, paths in enumerate(classes.values()) for path in paths]


def divide(name: str, classes: dict[str, list[str]], train: float, val: float) -> tuple[list[Entry], list[Entry]]:
    """Divides every class by CoOp's rule, with a fixed seed: rounded shares, the rest is the test set.

    The validation share is left out, as the protocols do not use it. A class's division depends on its own files only.

    Args:
        name: the data set, which is part of the seed.
        classes: {class: [path, ...]}, in label order.
        train, val: shares of a class's images.

    Returns:
        Training and test entries; both have every class.
    """
    training, testing = [], []
    for label, (folder, paths) in enumerate(classes.items()):
        n = len(paths)
        if n < 2:
            raise UserError(f"class {folder!r} of {name} has a single image: it needs at least 2, or remove it")
        order = generator(SPLIT_SEED, "split", name, folder).permutation(n)
        n_train = min(max(1, round(n * train)), n - 1)
        n_test = max(1, n - n_train - round(n * val))
        training += [Entry(paths[i], label) for i in sorted(order[:n_train])]
        testing += [Entry(paths[i], label) for i in sorted(order[n - n_test :])]
    return training, testing


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong while a list or annotation file is read into an error that names it."""
    try:
        yield
    except Exception as error:  # each format's reader has its own, and broken files raise any of them
        raise UserError(f"{path} cannot be read ({error!r}): download it again or remove it, then run again") from error


def read_split(path: Path, in_class_folders: bool = True) -> tuple[list[str], list[Entry], list[Entry]]:
    """Reads a split file of CoOp's: {"train", "val", "test": [[path, label, class name], ...]}.

    Args:
        in_class_folders: whether every class has a folder of its own, which then has to match its label.

    Returns:
        Class names in label order as the file has them, training entries, test entries.

    Raises:
        UserError: the file is broken, or its labels, names and class folders do not match one to one.
    """
    with readable(path):
        content = json.loads(path.read_text())
        rows = {part: [_row(*row) for row in content[part]] for part in content}
        train, test = rows["train"], rows["test"]
    every_row = [row for part in rows.values() for row in part]
    check_inside(path, [file for file, _, _ in every_row])
    class_names = dict(sorted({label: name for _, label, name in every_row}.items()))
    if list(class_names) != list(range(len(class_names))):
        raise UserError(f"the labels in {path} are not 0, 1, 2, ...: download it again or remove it")
    check_pairs(path, {(label, name) for _, label, name in every_row})
    if in_class_folders:  # "a/airplane_cabin" and not "airplane_cabin": SUN397 has many folders called "indoor"
        check_pairs(path, {(label, str(PurePosixPath(file).parent)) for file, label, _ in every_row if "/" in file})
    return list(class_names.values()), *([Entry(file, label) for file, label, _ in part] for part in (train, test))


def _row(file: str, label: int, name: str) -> tuple[str, int, str]:
    if not (isinstance(file, str) and type(label) is int and isinstance(name, str)):
        raise TypeError(f"a row is [{file!r}, {label!r}, {name!r}] in place of [path, label, class name]")
    return file, label, name


def check_inside(path: Path, files: Collection[str]) -> None:
    """Refuses a list whose files are not all below the set's folder."""
    outside = next((file for file in files if file.startswith("/") or ".." in file.split("/")), None)
    if outside:
        raise UserError(f"{path} points outside its folder ({outside}): download it again or remove it")
    refuse_odd(files, f"file in {path}")


def refuse_odd(names: Iterable[str], kind: str) -> None:
    """Refuses names that cannot be shown as they are: with control characters, or with bytes that are no text."""
    for name in names:
        if not is_plain(name):
            raise UserError(f"the name of a {kind} cannot be read as text ({name!a}): rename it")


def check_pairs(path: Path, pairs: Collection[tuple[int, str]]) -> None:
    """Refuses a list in which a label has two names (or class folders), or a name two labels."""
    labels, names = zip(*pairs, strict=True) if pairs else ((), ())
    if len(set(labels)) < len(pairs) or len(set(names)) < len(pairs):
        twice = next(pair for pair in sorted(pairs) if labels.count(pair[0]) + names.count(pair[1]) > 2)
        raise UserError(
            f"{path} pairs labels and class names in two ways (label {twice[0]}, {twice[1]!r}): download it again"
        )


def image_set(
    name: str,
    folder: Path,
    class_names: Sequence[str],
    train: Sequence[Entry],
    test: Sequence[Entry],
    source: str,
    augment: bool = True,
    domain_names: Sequence[str] = (),
    clients: Sequence[str] = (),
    upright: bool = False,
    test_folder: Path | None = None,
    just_listed: bool = False,
) -> ImageSet:
    """Builds the set from entries below `folder`, after checking that every file is there.

    The fingerprint covers class names, relative paths, file sizes, labels, domains, clients and whether photographs are
    turned upright: it survives moving the folder, and does not read the images.

    Args:
        test_folder: where the test entries are, if not below `folder`.
        just_listed: the entries come from folders and not from a list, and are too many to look at each: their sizes
            are not part of the fingerprint.
    """
    places = (folder, test_folder or folder)
    for names, kind in ((class_names, "class"), (domain_names, "domain"), (clients, "client")):
        refuse_odd(names, f"{kind} of {name}")
    class_names = tuple(class_name.replace("_", " ") for class_name in class_names)
    if not all(class_name.strip() for class_name in class_names):
        raise UserError(f"a class of {name} in {folder} has an empty name: give it one")
    if len(set(class_names)) < len(class_names):
        twice = next(class_name for class_name in class_names if class_names.count(class_name) > 1)
        raise UserError(f"two classes of {name} are called {twice!r}: rename one of their folders in {folder}")
    names = [name, class_names, tuple(domain_names)] + [tuple(clients)] * bool(clients) + ["upright"] * upright
    digest = hashlib.sha256(json.dumps(names).encode())
    for part, place, entries in zip(("train", "test"), places, (train, test), strict=True):
        if not entries:
            raise UserError(f"{name} in {place} has no {part} images: complete the folder, then run again")
        sizes = itertools.repeat("", len(entries)) if just_listed else file_sizes(place, entries)
        for entry, size in zip(entries, sizes, strict=True):
            line = f"{part}\0{entry.path}\0{size}\0{entry.label}\0{entry.domain}" + f"\0{entry.client}" * bool(clients)
            digest.update(f"{line}\n".encode(errors="surrogateescape"))
    splits = [
        as_split(place, entries, bool(domain_names), bool(clients), upright)
        for place, entries in zip(places, (train, test), strict=True)
    ]
    return ImageSet(
        name, class_names, *splits, digest.hexdigest(), source, augment, tuple(domain_names), tuple(clients)
    )


def as_split(
    folder: Path, entries: Sequence[Entry], with_domains: bool, with_clients: bool, upright: bool = False
) -> Split:
    files = ImageFiles((f"{folder}/{entry.path}" for entry in entries), upright)
    labels, domains, clients = (np.array([entry[field] for entry in entries], dtype=np.int64) for field in (1, 2, 3))
    return Split(files, labels, domains if with_domains else None, clients if with_clients else None)


def file_sizes(folder: Path, entries: Sequence[Entry]) -> list[int]:
    """Bytes of every file; missing ones are counted and the first one is named."""
    sizes = []
    missing = []
    for entry in entries:
        try:
            sizes.append(os.stat(f"{folder}/{entry.path}").st_size)
        except OSError:
            missing.append(entry.path)
    if missing:
        raise UserError(
            f"{len(missing)} of {len(entries)} listed images are missing in {folder} (first: {missing[0]}): "
            "unpack the whole archive again, or remove the list to use what is there"
        )
    return sizes
