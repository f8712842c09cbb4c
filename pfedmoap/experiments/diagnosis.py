"""Whether a data set is there and fit for use, the paper's accuracy on it, and what your own pictures suggest."""

from dataclasses import replace
from pathlib import Path

from pfedmoap import embedded
from pfedmoap.data import ON_DISK, Diagnosis, diagnose, find_card, is_own
from pfedmoap.errors import UserError
from pfedmoap.experiments.datasets import load_dataset, refuse_unknown_dataset
from pfedmoap.experiments.published import published_cells
from pfedmoap.experiments.suggestions import chosen_in_words, suggested_settings

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
    refuse_unknown_dataset(name)
    score = published_zero_shot(name)
    try:
        imageset = load_dataset(name, root)
    except UserError as error:
        return Diagnosis(name, False, str(error), published=score, card=find_card(name))
    diagnosis = diagnose(imageset, cache_dir, every_file, progress, score)
    if not is_own(name):
        return diagnosis
    try:
        return replace(diagnosis, suggested=chosen_in_words(imageset, suggested_settings(imageset)))
    except UserError as error:  # too few classes or images to share
        return replace(diagnosis, problems=(*diagnosis.problems, str(error)))


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
