"""The shipped photographs: a small copy of Caltech101 (CC BY 4.0), one archive, read image by image."""

import functools
import hashlib
import io
import zipfile
from collections import defaultdict
from collections.abc import Callable, Sequence

from PIL import Image

from pfedmoap.checkpoints import ASSETS
from pfedmoap.data import to_rgb
from pfedmoap.randomness import generator

ARCHIVE = ASSETS / "photographs.zip"
TRAIN = 18  # of a class's 31 photographs, the same ones in every set
VALIDATION_TRAIN = 11  # of those 18, in validation draws
NAMES = {  # of folders whose name is not what a caption would say
    "Faces": "face", "Faces_easy": "face close up", "Leopards": "leopard", "Motorbikes": "motorbike",
    "airplanes": "airplane", "binocular": "binoculars", "buddha": "buddha statue", "car_side": "car",
    "cougar_body": "cougar", "garfield": "cartoon cat", "hawksbill": "hawksbill turtle", "rhino": "rhinoceros",
    "sea_horse": "seahorse", "snoopy": "cartoon dog", "water_lilly": "water lily", "yin_yang": "yin and yang symbol",
}  # fmt: skip


class Pictures(Sequence[Image.Image]):
    """Images that exist from the moment they are asked for.

    Args:
        count: how many there are.
        picture: gives the one at an index.
    """

    def __init__(self, count: int, picture: Callable[[int], Image.Image]):
        self._count, self._picture = count, picture

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Image.Image:
        return self._picture(range(self._count)[index])


@functools.cache
def _contents() -> dict[str, bytes]:
    """The archive's files by name; in memory, as finding one in the archive takes longer than decoding it."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        return {name: archive.read(name) for name in sorted(archive.namelist())}


@functools.cache
def files() -> dict[str, tuple[str, ...]]:
    """Folder of a class -> its files in the archive, in an order that was drawn once: first those for training."""
    found = defaultdict(list)
    for name in _contents():
        folder, _, file = name.partition("/")
        if file:
            found[folder].append(name)
    return {folder: tuple(names[k] for k in generator(0, "photographs", folder).permutation(len(names)))
            for folder, names in found.items()}


def divided(folder: str, validation: bool) -> dict[str, tuple[str, ...]]:
    """A class's files for training and for testing; in a validation draw both are of those for training."""
    of_class = files()[folder]
    if validation:
        of_class, cut = of_class[:TRAIN], VALIDATION_TRAIN
    else:
        cut = TRAIN
    return {"train": of_class[:cut], "test": of_class[cut:]}


def read(name: str) -> Image.Image:
    """One file of the archive, in mode RGB."""
    return to_rgb(Image.open(io.BytesIO(_contents()[name])))


def class_name(folder: str) -> str:
    """Prompt-ready: "electric guitar"."""
    return NAMES.get(folder, folder.replace("_", " "))


@functools.cache
def fingerprint() -> str:
    """SHA-256 of the archive."""
    return hashlib.sha256(ARCHIVE.read_bytes()).hexdigest()
