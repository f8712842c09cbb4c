"""Looks at a data set as it lies on the disk: is it there, complete, readable, and are labels and names aligned?"""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from pfedmoap.data import cache
from pfedmoap.data.cards import Card, find_card
from pfedmoap.data.folders import FOLDERS, composed
from pfedmoap.data.hub import HubImages
from pfedmoap.data.images import ImageFiles
from pfedmoap.data.imageset import ImageSet
from pfedmoap.errors import UserError
from pfedmoap.system import as_file_name

SAMPLE = 32  # images that the quick check opens


@dataclass(frozen=True)
class Diagnosis:
    """What is known about one data set; plain values, fit for JSON.

    Attributes:
        name: as in `Experiment.dataset`.
        found: whether it could be loaded; if not, `where` says why and what to do.
        where: one line: the folder and the split that was used.
        classes, train, test: how many.
        names: whether labels, class names and class folders go together, in words.
        files: how many were opened, or how many are empty or unreadable, in words.
        problems: what has to be mended, one sentence each.
        fingerprint: first 12 digits.
        cached: one line per backbone that features are cached for.
        published: the paper's zero-shot accuracy in percent.
        card: what is known about the set itself.
        suggested: the settings that your own pictures suggest, in words.
    """

    name: str
    found: bool
    where: str
    classes: int = 0
    train: int = 0
    test: int = 0
    names: str = ""
    files: str = ""
    problems: tuple[str, ...] = ()
    fingerprint: str = ""
    cached: tuple[str, ...] = ()
    published: float | None = None
    card: Card | None = None
    suggested: str = ""


def diagnose(
    imageset: ImageSet, cache_dir: str | Path, every_file: bool = False, progress: bool = True,
    published: float | None = None,
) -> Diagnosis:  # fmt: skip
    """Examines a data set that could be loaded.

    Args:
        cache_dir: the feature cache.
        every_file: open every image, not just a few; takes minutes for a large set.
        progress: whether to show a bar while every image is opened.
        published: the paper's zero-shot accuracy, for the diagnosis.
    """
    names, misaligned = alignment(imageset)
    files, broken = check_files(imageset, every_file, progress)
    card, parts = find_card(imageset.name), (len(imageset.train), len(imageset.test))
    lacking = card.lacking(len(imageset.class_names), len(imageset.domain_names), *parts) if card else ()
    return Diagnosis(
        name=imageset.name,
        found=True,
        where=imageset.source,
        classes=len(imageset.class_names),
        train=len(imageset.train),
        test=len(imageset.test),
        names=names,
        files=files,
        problems=(*lacking, *misaligned, *_seen_twice(imageset), *broken),
        fingerprint=imageset.fingerprint[:12],
        cached=cached_features(imageset, cache_dir),
        published=published,
        card=card,
    )


def alignment(imageset: ImageSet) -> tuple[str, tuple[str, ...]]:
    """Whether every label has one class folder and every class folder one label, and how many are called alike.

    Returns:
        The finding in words, and problems.
    """
    rows = set()  # (label, folder)
    for split in (imageset.train, imageset.test):
        if not isinstance(split.images, ImageFiles):
            return "labels come with the pixels", ()
        rows |= set(zip(split.labels.tolist(), map(os.path.dirname, split.images.paths), strict=True))
    owners, named = defaultdict(set), defaultdict(set)  # labels of a folder; names of a label's folders
    for label, folder in rows:
        owners[folder].add(label)
        named[label].add(composed(os.path.basename(folder)))
    if len(owners) < len(named) and all(len(labels) > 1 for labels in owners.values()):
        return "labels come from a list", ()
    for label, names in named.items():  # ImageNetV2's test folders are numbers, and its training folders are not
        named[label] = {name for name in names if not name.isdecimal()} or names
    odd = {composed(os.path.basename(folder)) for folder, labels in owners.items() if len(labels) > 1}
    odd = odd.union(*(names for names in named.values() if len(names) > 1))
    if odd and imageset.name == FOLDERS:  # a CSV may put images wherever it likes
        return "labels come from a list", ()
    if odd:
        problem = f"the folder {min(odd)!r} and its label do not belong to each other alone: unpack the set again"
        return "labels and folders differ", (problem,)
    alike = sum(_plain(min(names)) == _plain(imageset.class_names[label]) for label, names in named.items())
    return f"one folder per label, {alike} of {len(named)} called alike", ()


def _seen_twice(imageset: ImageSet) -> tuple[str, ...]:
    """A problem if images are tested that were trained on."""
    trained, tested = (getattr(part.images, "paths", ()) for part in (imageset.train, imageset.test))
    both = sorted(set(trained) & set(tested))
    return (f"{len(both)} images are for training and for testing ({both[0]}): correct the list",) if both else ()


def check_files(imageset: ImageSet, every_file: bool, progress: bool = True) -> tuple[str, tuple[str, ...]]:
    """Looks for empty files, and opens some or all of the others; returns the finding in words, and problems."""
    images = [part.images for part in (imageset.train, imageset.test)]
    if not all(isinstance(part, (ImageFiles, HubImages)) for part in images):
        return "no image files", ()
    paths = [path for part in images for path in getattr(part, "paths", ())]
    empty = [f"{path} is empty: replace or delete it" for path in paths if os.stat(path).st_size == 0]
    places = [(part, index) for part in images for index in range(len(part))]
    chosen = range(len(places)) if every_file else np.unique(np.linspace(0, len(places) - 1, SAMPLE).astype(int))
    broken = _unreadable(places[index] for index in chosen if not paths or os.stat(paths[index]).st_size)
    opened = tqdm(broken, "opening images", len(chosen), unit=" images", delay=1, disable=not (progress and every_file))
    problems = (*empty, *(problem for problem in opened if problem))
    how = "all opened" if every_file else f"{len(chosen)} opened"
    return f"{len(problems)} of {len(places)} files broken, {how}" if problems else f"files fine, {how}", problems


def _unreadable(places: Iterable[tuple[Sequence[Image.Image], int]]) -> Iterable[str | None]:
    def read(place: tuple[Sequence[Image.Image], int]) -> str | None:
        images, index = place
        try:
            images[index]
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor() as pool:  # decoders let other threads run
        yield from pool.map(read, places)


def cached_features(imageset: ImageSet, cache_dir: str | Path) -> tuple[str, ...]:
    """One line per backbone: the tables of features that the cache holds of this very content."""
    lines = defaultdict(list)
    for table in cache.cached_tables(cache_dir):
        if (table.dataset, table.data) == (as_file_name(imageset.name), imageset.fingerprint[:12]):
            lines[table.backbone].append(f"{table.split} {table.kind} {table.rows}")
    return tuple(f"{backbone}: {', '.join(parts)}" for backbone, parts in lines.items())


def _plain(name: str) -> str:
    return name.replace("_", " ").replace("-", " ").lower()
