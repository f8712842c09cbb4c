"""The data sets by name: the embedded ones, those that are read from a folder on disk, and your own folders."""

import difflib
from collections.abc import Callable
from pathlib import Path

from pfedmoap.data import folders
from pfedmoap.data.catalog import cifar, domains, few_shot
from pfedmoap.data.imageset import ImageSet
from pfedmoap.embedded import sets as embedded
from pfedmoap.errors import UserError

ON_DISK: dict[str, Callable[[Path], ImageSet]] = {
    "flowers102": few_shot.flowers102,
    "oxford_pets": few_shot.oxford_pets,
    "food101": few_shot.food101,
    "caltech101": few_shot.caltech101,
    "dtd": few_shot.dtd,
    "cifar10": cifar.cifar10,
    "cifar100": cifar.cifar100,
    "domainnet": domains.domainnet,
    "office_caltech10": domains.office_caltech10,
}


def names() -> tuple[str, ...]:
    """Every data set that `load` knows: the embedded ones, which need no files, those on disk, and `folders`."""
    return (*embedded.NAMES, *ON_DISK, folders.NAME)


def load(name: str, root: str | Path | None = None) -> ImageSet:
    """Loads a data set; images are decoded later, when they are asked for.

    Args:
        name: one of `names()`; an embedded set's name may end in "-validation" (see `embedded.sets.load`).
        root: the folder that holds the set's own folder (or that folder itself); for `folders` the folder of your
            images or a CSV file that lists them (see `data.folders`); not used by embedded sets.

    Raises:
        UserError: the name is unknown, the root is missing, or the files under it are not what they should be.
    """
    if name.removesuffix(embedded.VALIDATION) in embedded.NAMES:
        return embedded.load(name)
    if name not in names():
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"no data set is called {name!r}: {hint}known are {', '.join(names())}")
    if root is None:
        raise UserError(f"{name} is read from disk: say which folder holds it (--data-root DIR)")
    root = Path(root).expanduser()
    if not root.is_dir() and not (name == folders.NAME and root.is_file()):
        raise UserError(f"the data root {root} is not a folder: create it and put {name} there, or name another one")
    try:
        return folders.load(root) if name == folders.NAME else ON_DISK[name](root)
    except OSError as error:
        where = error.filename or root
        raise UserError(f"{where} cannot be read ({error.strerror}): check its permissions, then run again") from error
