"""Every data set by its name: the embedded ones, those on disk, and your own folders."""

from pathlib import Path

from pfedmoap import embedded
from pfedmoap.data import (
    FOLDERS,
    HUB,
    ON_DISK,
    Diagnosis,
    ImageSet,
    diagnose,
    download,
    find_card,
    load_from_disk,
    load_from_hub,
)
from pfedmoap.errors import UserError, refuse_unknown
from pfedmoap.experiments.published import published_cells

# Where the paper has the zero-shot accuracy of a set: table and column.
PUBLISHED = {
    "flowers102": ("table1", "Flowers102"),
    "oxford_pets": ("table1", "OxfordPets"),
    "food101": ("table1", "Food101"),
    "caltech101": ("table1", "Caltech101"),
    "dtd": ("table1", "DTD"),
    "cifar10": ("table2", "CIFAR10"),
    "cifar100": ("table2", "CIFAR100"),
    "domainnet": ("table3", "Average"),
    "office_caltech10": ("table4", "Average"),
}


def dataset_names() -> tuple[str, ...]:
    """Every data set that `load_dataset` knows: the embedded ones, which need no files, those on disk, `folders`.

    Besides these there is `hf:NAME`, any set in Hugging Face's format (see `data.hub`).
    """
    return (*embedded.NAMES, *ON_DISK, FOLDERS)


def _refuse_unknown(name: str) -> None:
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
    _refuse_unknown(name)
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
    _refuse_unknown(name)
    if name not in ON_DISK:
        raise UserError(f"{name} needs no download: its images come with the package, or are your own.")
    return download(name, root, progress)


def examine(
    name: str, root: str | Path | None, cache_dir: str | Path, every_file: bool = False, progress: bool = True
) -> Diagnosis:
    """Examines one data set.

    Args:
        name: one of `dataset_names()`, or `hf:...`.
        root: the folder of the data sets on disk.
        cache_dir: the feature cache.
        every_file: open every image, not just a few; takes minutes for a large set.
        progress: whether to show a bar while every image is opened.

    Raises:
        UserError: there is no data set of that name. Whatever is wrong with one is in the diagnosis.
    """
    _refuse_unknown(name)
    score = published_zero_shot(name)
    try:
        imageset = load_dataset(name, root)
    except UserError as error:
        return Diagnosis(name, False, str(error), published=score, card=find_card(name))
    return diagnose(imageset, cache_dir, every_file, progress, score)


def worth_examining(root: str | Path | None) -> tuple[str, ...]:
    """The embedded data sets and, with a root, those on disk; your own folders only by name."""
    return embedded.NAMES + (tuple(ON_DISK) if root else ())


def published_zero_shot(name: str) -> float | None:
    """The paper's ZS-CLIP accuracy on a data set in percent, where it has one."""
    if name not in PUBLISHED:
        return None
    table, column = PUBLISHED[name]
    try:
        rows = published_cells(table)
    except UserError:  # the package without the project's folder
        return None
    return float(rows.loc[(rows["method"] == "ZS-CLIP") & (rows["dataset"] == column), "mean"].iloc[0])
