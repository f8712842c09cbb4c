"""Every data set by its name: the embedded ones, those on disk, and your own folders."""

from pathlib import Path

from pfedmoap import embedded
from pfedmoap.data import FOLDERS, HUB, ON_DISK, ImageSet, download, load_from_disk, load_from_hub
from pfedmoap.errors import UserError, refuse_unknown


def dataset_names() -> tuple[str, ...]:
    """Every data set that `load_dataset` knows: the embedded ones, which need no files, those on disk, `folders`.

    Besides these there is `hf:NAME`, any set in Hugging Face's format (see `data.hub`).
    """
    return (*embedded.NAMES, *ON_DISK, FOLDERS)


def refuse_unknown_dataset(name: str) -> None:
    """Raises a UserError, which names the closest, unless `load_dataset` knows the name."""
    if not name.startswith(HUB):
        refuse_unknown([name], dataset_names(), "data set")


def load_dataset(name: str, root: str | Path | None = None) -> ImageSet:
    """Loads a data set; images are decoded later, when they are asked for.

    Args:
        name: one of `dataset_names()`, or `hf:...`; an embedded set's name may end in "-validation" (see
            `embedded.load`).
        root: the folder that holds the set's own folder (or that folder itself); for `folders` the folder of your
            images or a CSV file that lists them (see `data.folders`); for `hf:PATH` the folder that PATH starts
            from; not used by embedded sets.

    Raises:
        UserError: the name is unknown, the root is missing, or the files under it are not what they should be.
    """
    if name.removesuffix(embedded.VALIDATION) in embedded.NAMES:
        return embedded.load(name)
    refuse_unknown_dataset(name)
    return load_from_hub(name, root) if name.startswith(HUB) else load_from_disk(name, root)


def validation_draw(name: str) -> str:
    """The name of a set's draw on which settings are chosen: a split of its training part (`embedded.load`).

    Raises:
        UserError: it has none.
    """
    if name not in embedded.NAMES:
        raise UserError(f"{name} has no validation draw, on which settings could be chosen without looking at its test "
                        f"images: tune on embedded sets ({', '.join(embedded.NAMES)}), as the profiles smoke, quick "
                        f"and long do.")
    return name + embedded.VALIDATION


def download_dataset(name: str, root: str | Path, progress: bool = True) -> str:
    """Fetches, checks and unpacks a data set, unless it is there already; returns the loaded set's `source`.

    Raises:
        UserError: there is nothing to download, the network or the disk fails, or a file is not what it should be.
    """
    refuse_unknown_dataset(name)
    if name not in ON_DISK:
        raise UserError(f"{name} needs no download: its images come with the package, or are your own.")
    return download(name, root, progress)
