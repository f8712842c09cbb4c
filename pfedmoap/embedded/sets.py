"""The embedded data sets: drawn on the spot from their names, and scikit-learn's handwritten digits."""

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pfedmoap.data import ImageSet, Split
from pfedmoap.embedded.captions import describe
from pfedmoap.embedded.drawing import PIXELS, draw
from pfedmoap.embedded.figures import DIGIT_WORDS, PATTERN, SHAPES
from pfedmoap.embedded.palette import COLOURS, TEXTURES
from pfedmoap.embedded.scenes import COLOUR, FIGURE, STYLE, VIEW, compose
from pfedmoap.errors import UserError
from pfedmoap.randomness import generator

# Raise this whenever a change of the renderer alters a single pixel: the feature cache and the records are keyed by it.
RECIPE_VERSION = 1
VALIDATION = "-validation"

_PLAIN = 0.5  # share of solid figures where the class names no texture: textures hide thin figures

Kind = tuple[str | None, str | None, str]  # colour, texture, figure; None is drawn at random


@dataclass(frozen=True)
class Recipe:
    """What an embedded set shows.

    Attributes:
        classes: in label order.
        domains: domain name -> (style, view) of its pictures; one domain named "" for sets without domains.
        train, test: pictures per class and domain.
    """

    classes: tuple[Kind, ...]
    domains: dict[str, tuple[str, str]]
    train: int
    test: int


def _product(colours: Sequence[str | None], textures: Sequence[str | None], figures: Sequence[str]) -> tuple[Kind, ...]:
    return tuple((c, t, f) for c in colours for t in textures for f in figures)


_BASIC = ("circle", "square", "triangle", "diamond", "star", "cross", "heart", "crescent", "ring", "arrow")
_SCENERY = ("house", "tree", "fish", "boat", "mushroom", "flower", "umbrella", "butterfly", "rocket", "flag")
_HOUSEHOLD = ("mug", "key", "bell", "bottle", "hammer", "ladder", "hat", "lamp", "glasses", "candle")
_PRINTS = ("striped", "dotted", "checkered", "zigzag", "gridded", "ringed")
_TRIPLES = tuple(
    (tuple(COLOURS)[k % 10], TEXTURES[(k + k // 10) % 8], _BASIC[(3 * k + k // 10) % 10]) for k in range(50)
)
# Styles and views were chosen on the validation draws, so that a learned context has something to add to zero-shot.
_RECIPES = {
    "patterns": Recipe(
        _product(("red", "yellow", "green", "blue", "purple"), TEXTURES, (PATTERN,)),
        {"": ("picture", "negative")},
        24,
        20,
    ),
    "attr3": Recipe(_TRIPLES, {"": ("picture", "warm")}, 24, 20),
    "colorshape": Recipe(_product(tuple(COLOURS)[:10], (None,), _BASIC), {"": ("clipart", "negative")}, 20, 12),
    "texshape": Recipe(_product((None,), _PRINTS, _BASIC), {"": ("grayscale", "warm")}, 24, 20),
    "shapes": Recipe(_product((None,), (None,), SHAPES), {"": ("sketch", "negative")}, 60, 30),
    "domains": Recipe(
        _product((None,), (None,), _SCENERY),
        {
            "clipart": ("clipart", "warm"),
            "infograph": ("infograph", "faded"),
            "painting": ("painting", "cool"),
            "quickdraw": ("quickdraw", "plain"),
            "photo": ("photo", "plain"),
            "sketch": ("sketch", "negative"),
        },
        30,
        20,
    ),
    "office": Recipe(
        _product((None,), (None,), _HOUSEHOLD),
        {
            "product": ("product", "plain"),
            "webcam": ("webcam", "cool"),
            "grayscale": ("grayscale", "negative"),
            "wallpaper": ("wallpaper", "warm"),
        },
        30,
        20,
    ),
}
NAMES = (*_RECIPES, "digits")


class Pictures(Sequence):
    """Images that exist from the first time they are asked for.

    Args:
        count: how many there are.
        pixels: draws those with the given indices: (k,) int64 -> (k, 32, 32, 3) uint8.
    """

    def __init__(self, count: int, pixels: Callable[[np.ndarray], np.ndarray]) -> None:
        self._count, self._pixels = count, pixels

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [Image.fromarray(pixels) for pixels in self._pixels(np.arange(self._count)[index])]
        return Image.fromarray(self._pixels(np.arange(self._count)[index, None])[0])

    def as_array(self) -> np.ndarray:
        """All images at once, (n, 32, 32, 3) uint8: many times faster than one by one."""
        return self._pixels(np.arange(self._count))


def load(name: str) -> ImageSet:
    """An embedded data set; deterministic in its name alone, and nothing is drawn before it is asked for.

    Args:
        name: one of `NAMES`, or one of them followed by "-validation": a draw that shares no image with the set's
            own, on which settings are chosen. The digits' validation draw is a split of their training part.

    Raises:
        UserError: there is no such set.
    """
    base = name.removesuffix(VALIDATION)
    if base not in NAMES:
        raise UserError(
            f"no embedded data set is called {name!r}: use one of {', '.join(NAMES)}, or one of these with "
            f"{VALIDATION!r} appended for the draw on which settings are chosen"
        )
    return _digits(name) if base == "digits" else _drawn(name, _RECIPES[base])


def _drawn(name: str, recipe: Recipe) -> ImageSet:
    splits = {
        part: _drawn_split(name, part, recipe, count)
        for part, count in (("train", recipe.train), ("test", recipe.test))
    }
    domains = tuple(domain for domain in recipe.domains if domain)
    return ImageSet(
        name=name,
        class_names=tuple(describe(*kind) for kind in recipe.classes),
        fingerprint=_fingerprint(name, splits, recipe),
        source="drawn by pfedmoap.embedded, the set's own split",
        augment=False,
        domain_names=domains,
        **splits,
    )


def _drawn_split(name: str, part: str, recipe: Recipe, count: int) -> Split:
    shape = len(recipe.domains), len(recipe.classes), count
    domains, labels, _ = (axis.reshape(-1) for axis in np.indices(shape))

    @functools.cache
    def scenes() -> np.ndarray:
        return _scenes(generator(0, "embedded set", name, part), recipe, labels, domains)

    pictures = Pictures(len(labels), lambda indices: draw(scenes()[indices]))
    return Split(pictures, labels, domains if "" not in recipe.domains else None)


def _scenes(random: np.random.Generator, recipe: Recipe, labels: np.ndarray, domains: np.ndarray) -> np.ndarray:
    colours, textures, figures = zip(*recipe.classes, strict=True)
    styles, views = zip(*recipe.domains.values(), strict=True)
    n, solid = len(labels), TEXTURES.index("solid")
    any_colour = random.integers(0, len(COLOURS), n)
    any_texture = np.where(random.random(n) < _PLAIN, solid, random.integers(0, len(TEXTURES), n))
    return compose(
        random,
        figure=np.array([FIGURE[f] for f in figures])[labels],
        colour=_given([COLOUR.get(c, -1) for c in colours], labels, any_colour),
        texture=_given([TEXTURES.index(t) if t else -1 for t in textures], labels, any_texture),
        style=np.array([STYLE[s] for s in styles])[domains],
        view=np.array([VIEW[v] for v in views])[domains],
    )


def _given(of_class: list[int], labels: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    given = np.array(of_class)[labels]
    return np.where(given < 0, otherwise, given)


def _digits(name: str) -> ImageSet:
    images, labels = _read_digits()
    train, test = _halves(np.arange(len(labels)), labels, "digits")
    if name.endswith(VALIDATION):
        train, test = _halves(train, labels[train], name)
    splits = {
        part: Split(Pictures(len(rows), lambda indices, rows=rows: _enlarged(images[rows[indices]])), labels[rows])
        for part, rows in (("train", train), ("test", test))
    }
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


def _enlarged(digits: np.ndarray) -> np.ndarray:
    """(k, 8, 8) uint8 -> (k, 32, 32, 3) uint8: three times as large, in the middle of a black square."""
    side, edge = 24, (PIXELS - 24) // 2
    pictures = np.zeros((len(digits), PIXELS, PIXELS, 3), np.uint8)
    for picture, digit in zip(pictures, digits, strict=True):
        large = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
        picture[edge:-edge, edge:-edge] = np.asarray(large)[:, :, None]
    return pictures


def _fingerprint(name: str, splits: dict[str, Split], recipe: Recipe | None = None) -> str:
    sizes = "/".join(f"{part}={len(split)}" for part, split in splits.items())
    return hashlib.sha256(f"embedded/{RECIPE_VERSION}/{name}/{sizes}/{recipe}".encode()).hexdigest()[:32]
