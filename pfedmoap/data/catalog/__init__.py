"""The data sets that are read from a folder on disk, by name: the paper's nine, others, and your own."""

from collections.abc import Callable
from pathlib import Path

from pfedmoap.data import folders
from pfedmoap.data.catalog import cifar, domains, few_shot, imagenet, listed
from pfedmoap.data.folders import FOLDERS
from pfedmoap.data.imageset import ImageSet
from pfedmoap.errors import UserError

__all__ = ["ON_DISK", "load_from_disk"]
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
    "eurosat": few_shot.eurosat,
    "stanford_cars": listed.stanford_cars,
    "fgvc_aircraft": listed.fgvc_aircraft,
    "sun397": listed.sun397,
    "ucf101": listed.ucf101,
    "imagenet": imagenet.imagenet,
    "imagenet_v2": imagenet.imagenet_v2,
    "imagenet_sketch": imagenet.imagenet_sketch,
    "imagenet_a": imagenet.imagenet_a,
    "imagenet_r": imagenet.imagenet_r,
    "pacs": domains.pacs,
    "office_home": domains.office_home,
}


def load_from_disk(name: str, root: str | Path | None) -> ImageSet:
    """Loads a data set from a folder; images are decoded later, when they are asked for.

    Args:
        name: one of `ON_DISK`, or `folders`.
        root: the folder that holds the set's own folder (or that folder itself); for `folders` the folder of your
            images or a CSV file that lists them (see `data.folders`).

    Raises:
        UserError: the root is missing, or the files under it are not what they should be.
    """
    if root is None:
        raise UserError(f"{name} is read from disk: say which folder holds it (--data-root DIR)")
    root = Path(root).expanduser()
    if not root.is_dir() and not (name == FOLDERS and root.is_file()):
        raise UserError(f"the data root {root} is not a folder: create it and put {name} there, or name another one")
    try:
        return folders.load(root) if name == FOLDERS else ON_DISK[name](root)
    except OSError as error:
        where = error.filename or root
        raise UserError(f"{where} cannot be read ({error.strerror}): check its permissions, then run again") from error
