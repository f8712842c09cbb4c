"""The embedded data sets: photographs of Caltech101, some of them redrawn, and scikit-learn's handwritten digits."""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pfedmoap.data import ImageSet, Split
from pfedmoap.embedded import photographs, styles
from pfedmoap.errors import UserError
from pfedmoap.randomness import generator

# Raise this whenever a pixel changes: the feature cache and the records are keyed by it.
RECIPE_VERSION = 2
VALIDATION = "-validation"
DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGIT_SIDE = 32  # pixels


@dataclass(frozen=True)
class Recipe:
    """What a set of photographs shows.

    Attributes:
        folders: the archive's folders of its classes, in label order.
        domains: names of functions in `styles`, which are the names of the set's domains; empty for photographs alone.
    """

    folders: tuple[str, ...]
    domains: tuple[str, ...] = ()


_ANIMALS = ("beaver", "cougar_body", "crocodile", "dalmatian", "dolphin", "elephant", "emu", "flamingo", "gerenuk",
            "hedgehog", "ibis", "kangaroo", "Leopards", "llama", "okapi", "panda", "pigeon", "platypus", "rhino",
            "rooster")  # fmt: skip
_NATURE = ("ant", "bonsai", "butterfly", "crab", "crayfish", "dragonfly", "joshua_tree", "lobster", "lotus", "mayfly",
           "nautilus", "octopus", "scorpion", "sea_horse", "starfish", "strawberry", "sunflower", "tick", "trilobite",
           "water_lilly")  # fmt: skip
_HOUSEHOLD = ("barrel", "binocular", "camera", "ceiling_fan", "cellphone", "chair", "chandelier", "cup", "ewer",
              "headphone", "lamp", "laptop", "menorah", "metronome", "scissors", "stapler", "umbrella", "watch",
              "wheelchair", "windsor_chair")  # fmt: skip
_MACHINES = ("accordion", "airplanes", "anchor", "cannon", "car_side", "electric_guitar", "euphonium", "ferry",
             "gramophone", "grand_piano", "helicopter", "inline_skate", "ketch", "mandolin", "Motorbikes", "revolver",
             "saxophone", "schooner", "soccer_ball", "wrench")  # fmt: skip
_DRAWN = ("airplanes", "butterfly", "chair", "cup", "elephant", "electric_guitar", "pizza", "rooster", "sunflower",
          "umbrella")  # fmt: skip
_OFFICE = ("binocular", "camera", "ceiling_fan", "cellphone", "headphone", "lamp", "laptop", "scissors", "stapler",
           "watch")  # fmt: skip
_STYLES = ("clipart", "infograph", "painting", "quickdraw", "photo", "sketch")
_OFFICE_STYLES = ("product", "webcam", "grayscale", "wallpaper")
_DOUBLE = "Faces_easy"  # the photographs of Faces, cropped
_DIGITS = "digits"
NAMES = ("animals", "nature", "household", "machines", "caltech40", "mixed40", "caltech", "domains", "office", _DIGITS)


def load(name: str) -> ImageSet:
    """An embedded data set; deterministic in its name alone, and no image is decoded before it is asked for.

    Args:
        name: one of `NAMES`, or one of them followed by "-validation": a split of the set's training part, on which
            settings are chosen.

    Raises:
        UserError: there is no such set.
    """
    base = name.removesuffix(VALIDATION)
    if base not in NAMES:
        raise UserError(
            f"no embedded data set is called {name!r}: use one of {', '.join(NAMES)}, or one of these with "
            f"{VALIDATION!r} appended for the draw on which settings are chosen"
        )
    return _digits(name) if base == _DIGITS else _photographed(name, _recipe(base))


def _recipe(name: str) -> Recipe:
    fixed = {"animals": Recipe(_ANIMALS), "nature": Recipe(_NATURE), "household": Recipe(_HOUSEHOLD),
             "machines": Recipe(_MACHINES), "domains": Recipe(_DRAWN, _STYLES),
             "office": Recipe(_OFFICE, _OFFICE_STYLES)}  # fmt: skip
    if name in fixed:
        return fixed[name]
    everything = tuple(folder for folder in sorted(photographs.files(), key=str.lower) if folder != _DOUBLE)
    shares = {"caltech": range(5), "caltech40": (0, 2), "mixed40": (1, 3)}  # of every five classes
    return Recipe(tuple(folder for place, folder in enumerate(everything) if place % 5 in shares[name]))


def _photographed(name: str, recipe: Recipe) -> ImageSet:
    splits = {part: _split(name, part, recipe) for part in ("train", "test")}
    redrawn = f", redrawn in {len(recipe.domains)} styles" if recipe.domains else ""
    return ImageSet(
        name=name,
        class_names=tuple(map(photographs.class_name, recipe.folders)),
        fingerprint=_fingerprint(name, splits, photographs.fingerprint(), recipe),
        source=f"photographs of Caltech101 (CC BY 4.0){redrawn}, {photographs.TRAIN} of each class's 31 for training, "
               "not an official split",
        augment=False,  # a view of each image is encoded once, and shared by all runs
        domain_names=recipe.domains,
        **splits,
    )  # fmt: skip


def _split(name: str, part: str, recipe: Recipe) -> Split:
    validation = name.endswith(VALIDATION)
    of_classes = [photographs.divided(folder, validation)[part] for folder in recipe.folders]
    labels = np.repeat(np.arange(len(of_classes)), [len(files) for files in of_classes])
    files, domains = [file for files in of_classes for file in files], max(1, len(recipe.domains))

    def picture(index: int) -> Image.Image:
        domain, file = divmod(index, len(files))
        image = photographs.read(files[file])
        if not recipe.domains:
            return image
        style = recipe.domains[domain]
        return getattr(styles, style)(image, generator(0, "style", style, files[file]))

    return Split(photographs.Pictures(domains * len(files), picture), np.tile(labels, domains),
                 np.repeat(np.arange(domains), len(files)) if recipe.domains else None)  # fmt: skip


def _digits(name: str) -> ImageSet:
    images, labels = _read_digits()
    train, test = _halves(np.arange(len(labels)), labels, _DIGITS)
    if name.endswith(VALIDATION):
        train, test = _halves(train, labels[train], name)
    splits = {
        part: Split(photographs.Pictures(len(rows), lambda index, rows=rows: _enlarged(images[rows[index]])),
                    labels[rows])
        for part, rows in (("train", train), ("test", test))
    }  # fmt: skip
    return ImageSet(
        name=name,
        class_names=tuple(f"digit {word}" for word in DIGIT_WORDS),
        fingerprint=_fingerprint(name, splits),
        source="scikit-learn's handwritten digits, 60 % of each class for training, not an official split",
        augment=False,
        **splits,
    )


def _halves(rows: np.ndarray, labels: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Splits 60 to 40 within each class."""
    train, test = [], []
    for label in np.unique(labels):
        own = generator(0, "embedded set", name, int(label)).permutation(rows[labels == label])
        cut = round(0.6 * len(own))
        train.append(own[:cut])
        test.append(own[cut:])
    return np.concatenate(train), np.concatenate(test)


@functools.cache
def _read_digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits  # a slow import, and only this set needs it

    digits = load_digits()
    return (digits.images * (255 / 16)).astype(np.uint8), digits.target.astype(np.int64)


def _enlarged(digit: np.ndarray) -> Image.Image:
    """(8, 8) uint8, three times as large, in the middle of a black square."""
    large = Image.fromarray(digit).resize((24, 24), Image.Resampling.BICUBIC)
    picture, edge = Image.new("RGB", (DIGIT_SIDE, DIGIT_SIDE)), (DIGIT_SIDE - 24) // 2
    picture.paste(large.convert("RGB"), (edge, edge))
    return picture


def _fingerprint(name: str, splits: dict[str, Split], *content: object) -> str:
    sizes: Sequence[str] = [f"{part}={len(split)}" for part, split in splits.items()]
    facts = "/".join(map(str, (RECIPE_VERSION, name, *sizes, *content)))
    return hashlib.sha256(f"embedded/{facts}".encode()).hexdigest()[:32]
