"""How a set of CoOp's is divided: by CoOp's split file, by the set's own lists, or by CoOp's rule."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from pfedmoap.data import layout
from pfedmoap.data.imageset import ImageSet
from pfedmoap.errors import UserError

Classes = dict[str, list[str]]  # {class: [path, ...]}, in label order


def by_split_file(name: str, folder: Path, path: Path, in_class_folders: bool = True) -> ImageSet | None:
    """The set as CoOp's split file has it; None if there is no such file."""
    if not path.is_file():
        return None
    class_names, train, test = layout.read_split(path, in_class_folders)
    return layout.image_set(name, folder, class_names, train, test, f"{folder}, CoOp's split ({path.name})")


def from_folders(
    name: str, folder: Path, split_file: str, skip: Collection[str] = (), renamed: Mapping[str, str] | None = None
) -> ImageSet:
    """One folder per class: divided by CoOp's split file beside them, or by CoOp's rule where there is none."""
    divided = by_split_file(name, folder, folder.parent / split_file)
    if divided:
        return divided
    classes = layout.class_folders(folder, skip)
    return by_rule(name, folder, classes, [(renamed or {}).get(class_name, class_name) for class_name in classes])


def by_rule(name: str, folder: Path, classes: Classes, class_names: Sequence[str]) -> ImageSet:
    """Half of a class for training and 30 % for testing; the rest would be CoOp's validation set."""
    train, test = layout.divide(name, classes, train=0.5, val=0.2)
    source = f"{folder}, 50/20/30 % per class with a fixed seed, not CoOp's split"
    return layout.image_set(name, folder, class_names, train, test, source)


def by_lists(
    name: str, folder: Path, class_names: Sequence[str], trainval: Classes, test: Classes, lists: tuple[str, str]
) -> ImageSet:
    """The official test list, and 80 % of the official training list: the rest would be CoOp's validation set.

    Args:
        trainval, test: what the lists have.
        lists: their names.

    Raises:
        UserError: the lists have not the same classes.
    """
    odd = set(trainval) ^ set(test)
    if odd:
        raise UserError(f"{' and '.join(lists)} of {folder} differ in the class {min(odd)!r}: download both again")
    train, _ = layout.divide(name, trainval, train=0.8, val=0.0)
    source = f"{folder}, {lists[1]}, and 80 % of {lists[0]} per class with a fixed seed, not CoOp's split"
    testing = layout.listed({key: test[key] for key in trainval})
    return layout.image_set(name, folder, class_names, train, testing, source)


def by_class(path: Path, classes: Sequence[str], rows: Iterable[tuple[str, str]]) -> Classes:
    """What a list has of every class, in the order of `classes`.

    Args:
        path: of the list, for the errors.
        rows: (image, class) of every line.

    Raises:
        UserError: the list has a class that the set has not, points outside, or lacks a class.
    """
    found: Classes = {name: [] for name in classes}
    for file, name in rows:
        if name not in found:
            raise UserError(f"{path} has the class {name!r}, which the list of classes has not: download both again")
        found[name].append(file)
    layout.check_inside(path, [file for files in found.values() for file in files])
    empty = next((name for name, files in found.items() if not files), None)
    if empty:
        raise UserError(f"{path} has no image of {empty!r}: download it again")
    return found


def read_lines(path: Path) -> list[str]:
    """The lines of a list, without empty ones."""
    with layout.readable(path):
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]
