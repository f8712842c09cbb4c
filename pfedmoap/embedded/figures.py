"""What can be drawn: forty shapes, thirty-six characters in several hands, and the full-field pattern."""

import functools
from dataclasses import dataclass

import numpy as np

from pfedmoap.embedded.distance import X, box, cut, disc, join, oval, polygon, regular, stroke

PATTERN = "pattern"

GEOMETRIC = (
    "circle", "square", "triangle", "diamond", "pentagon", "hexagon", "star", "cross", "heart", "crescent", "ring",
    "arrow", "semicircle", "bolt", "spiral", "oval",
)  # fmt: skip
OBJECTS = (
    "house", "tree", "fish", "mug", "umbrella", "key", "boat", "bell", "mushroom", "flower", "cloud", "drop",
    "hourglass", "bottle", "hammer", "flag", "ladder", "hat", "lamp", "glasses", "anchor", "butterfly", "rocket",
    "candle",
)  # fmt: skip
SHAPES = GEOMETRIC + OBJECTS

DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# Pen strokes on a grid of columns 0..4 and rows 0..6 (row 0 on top), one "xy" pair per point. "~" smooths a stroke,
# "@" smooths and closes it; "|" separates hands, so that a character is met in more than one form.
_STROKES = {
    "zero": "@1030414536160501 | @204244260402",
    "one": "112026 | 2026 | 1120261636",
    "two": "~0110304142230406 0646 | ~01103041331506 0646",
    "three": "~01103041423313 ~13334445361605 | ~00103041322313 ~23334445361605",
    "four": "3036 300444 | 100444 3036 | 10133343 3036",
    "five": "400003 ~0323334445361605 | 301002 ~0213334445361605",
    "six": "~301102040516364544331304 | ~20110305163645443314",
    "seven": "004016 | 00404026 1333 | 01004026",
    "eight": "@1030414233130201 @1333444536160504 | @301001123445361605143241",
    "nine": "@1030414233130201 ~41443516 | @10304133130301 4036",
    "a": "062046 1434 | @1232434536160503 4246",
    "b": "0006 ~003041423303 ~033344453606 | 0006 @0313334445361605",
    "c": "~4130100105163645",
    "d": "0006 ~003041453606 | 4046 @4333130405163645",
    "e": "40000646 0333 | ~04444332120305163645",
    "f": "400006 0333 | ~403021 2126 0343",
    "g": "~4130100105163645 454323",
    "h": "0006 4046 0343 | 0006 ~04133343 4346",
    "i": "2026 1030 1636 | 2226",
    "j": "3035 ~35261605 1040",
    "k": "0006 4003 0346 | 0006 3204 1446",
    "l": "000646 | 2026",
    "m": "0600234046 | 0602 ~02122426 ~24324246",
    "n": "06004640 | 0602 ~03123243 4346",
    "o": "@1030414536160501",
    "p": "0600 ~003041423303",
    "q": "@1030414536160501 3446",
    "r": "0600 ~003041423303 2346 | 0602 ~04132232",
    "s": "~413010010213334445361605",
    "t": "0040 2026 | 2026 0242",
    "u": "~000516364540 | 0002 ~0005163645 4046",
    "v": "002640",
    "w": "0016233640 | 0026 2640",
    "x": "0046 4006",
    "y": "0023 4023 2326 | 0023 4016",
    "z": "00400646 | 00400646 1333",
}
CHARACTERS = tuple(f"digit {word}" for word in DIGIT_WORDS) + tuple(f"letter {c}" for c in "abcdefghijklmnopqrstuvwxyz")
NAMES = SHAPES + CHARACTERS + (PATTERN,)


@dataclass(frozen=True)
class Figures:
    """All figures as distance fields.

    Attributes:
        fields: (forms, SIZE, SIZE) float32, negative inside.
        first, count: (names,) int64; the forms of `NAMES[k]` are `fields[first[k] : first[k] + count[k]]`.
    """

    fields: np.ndarray
    first: np.ndarray
    count: np.ndarray


@functools.cache
def figures() -> Figures:
    """Computes the distance fields, once per process."""
    forms = [[field] for field in _shapes().values()]
    forms += [[_written(hand) for hand in hands.split("|")] for hands in _STROKES.values()]
    forms += [[np.full(X.shape, -1.0)]]
    count = np.array([len(form) for form in forms])
    fields = np.stack([field for form in forms for field in form])
    # A coarse step absorbs differences in the last bit between mathematical libraries.
    fields = (np.round(fields * 4096) / 4096).astype(np.float32)
    return Figures(fields, np.cumsum(count) - count, count)


def _shapes() -> dict[str, np.ndarray]:
    fields = _geometric() | _household() | _outdoor()
    return {name: fields[name] for name in SHAPES}


def _geometric() -> dict[str, np.ndarray]:
    star = [p for pair in zip(regular(5, 1.0), regular(5, 0.42, 0.1), strict=True) for p in pair]
    turns = np.arange(31) / 14
    coil = [
        (r * np.cos(2 * np.pi * t), r * np.sin(2 * np.pi * t)) for t, r in zip(turns, 0.95 * turns / 2.2, strict=True)
    ]
    return {
        "circle": disc(0, 0, 0.9),
        "square": box(-0.78, -0.78, 0.78, 0.78),
        "triangle": polygon((0, -0.95), (0.95, 0.75), (-0.95, 0.75)),
        "diamond": polygon((0, -1), (0.7, 0), (0, 1), (-0.7, 0)),
        "pentagon": polygon(*regular(5, 0.98)),
        "hexagon": polygon(*regular(6, 0.98)),
        "star": polygon(*star),
        "cross": join(box(-0.32, -0.95, 0.32, 0.95), box(-0.95, -0.32, 0.95, 0.32)),
        "heart": join(
            disc(-0.43, -0.35, 0.48),
            disc(0.43, -0.35, 0.48),
            polygon((-0.86, -0.12), (0, -0.4), (0.86, -0.12), (0, 0.95)),
        ),
        "crescent": cut(disc(0, 0, 0.95), disc(0.42, -0.12, 0.78)),
        "ring": cut(disc(0, 0, 0.95), disc(0, 0, 0.55)),
        "arrow": join(box(-1, -0.25, 0.2, 0.25), polygon((0.1, -0.8), (1, 0), (0.1, 0.8))),
        "semicircle": cut(disc(0, 0.45, 1.0), box(-2, 0.45, 2, 2)),
        "bolt": polygon((0.25, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.25, 1), (0.6, -0.25), (0.05, -0.25)),
        "spiral": stroke(0.12, *coil),
        "oval": oval(0, 0, 1.0, 0.6),
    }


def _household() -> dict[str, np.ndarray]:
    rungs = [stroke(0.09, (-0.45, y), (0.45, y)) for y in (-0.6, -0.2, 0.2, 0.6)]
    return {
        "mug": join(box(-0.75, -0.7, 0.4, 0.8), cut(disc(0.5, 0, 0.48), disc(0.5, 0, 0.25))),
        "umbrella": join(
            cut(disc(0, 0, 0.95), box(-2, 0, 2, 2)), stroke(0.08, (0, 0), (0, 0.75), (0.15, 0.9), (0.32, 0.75))
        ),
        "key": join(
            cut(disc(-0.55, 0, 0.42), disc(-0.55, 0, 0.18)),
            stroke(0.11, (-0.2, 0), (0.95, 0)),
            stroke(0.1, (0.85, 0), (0.85, 0.38)),
            stroke(0.1, (0.5, 0), (0.5, 0.33)),
        ),
        "bell": join(cut(oval(0, 0.5, 0.65, 1.35), box(-2, 0.5, 2, 2)), box(-0.9, 0.42, 0.9, 0.62), disc(0, 0.78, 0.2)),
        "hourglass": join(
            polygon((-0.75, -0.95), (0.75, -0.95), (0, 0.12)), polygon((0, -0.12), (0.75, 0.95), (-0.75, 0.95))
        ),
        "bottle": join(box(-0.45, -0.15, 0.45, 0.98), box(-0.18, -0.98, 0.18, 0), disc(0, -0.1, 0.42)),
        "hammer": join(box(-0.14, -0.6, 0.14, 1.0), box(-0.7, -0.95, 0.75, -0.4)),
        "ladder": join(stroke(0.1, (-0.5, -1), (-0.5, 1)), stroke(0.1, (0.5, -1), (0.5, 1)), *rungs),
        "hat": join(oval(0, 0.5, 1.0, 0.22), polygon((-0.5, 0.5), (-0.42, -0.65), (0.42, -0.65), (0.5, 0.5))),
        "lamp": join(
            polygon((-0.35, -0.95), (0.35, -0.95), (0.8, 0), (-0.8, 0)),
            stroke(0.09, (0, 0), (0, 0.85)),
            box(-0.5, 0.75, 0.5, 0.95),
        ),
        "glasses": join(
            cut(disc(-0.55, 0, 0.45), disc(-0.55, 0, 0.28)),
            cut(disc(0.55, 0, 0.45), disc(0.55, 0, 0.28)),
            stroke(0.09, (-0.12, 0), (0.12, 0)),
        ),
        "candle": join(
            box(-0.28, -0.2, 0.28, 0.95),
            disc(0, -0.55, 0.2),
            polygon((0, -1.05), (0.18, -0.6), (-0.18, -0.6)),
            box(-0.6, 0.8, 0.6, 0.98),
        ),
    }


def _outdoor() -> dict[str, np.ndarray]:
    petals = [disc(x, y, 0.34) for x, y in regular(6, 0.6)]
    return {
        "house": join(box(-0.7, -0.1, 0.7, 0.9), polygon((-0.98, -0.05), (0, -0.95), (0.98, -0.05))),
        "tree": join(
            polygon((0, -1), (0.55, -0.3), (-0.55, -0.3)),
            polygon((0, -0.6), (0.8, 0.5), (-0.8, 0.5)),
            box(-0.15, 0.4, 0.15, 1),
        ),
        "fish": join(oval(-0.15, 0, 0.75, 0.45), polygon((0.4, 0), (1, -0.5), (1, 0.5))),
        "boat": join(
            polygon((-0.98, 0.35), (0.98, 0.35), (0.55, 0.9), (-0.6, 0.9)),
            polygon((0.05, -0.98), (0.05, 0.22), (0.8, 0.22)),
            polygon((-0.08, -0.7), (-0.08, 0.22), (-0.65, 0.22)),
        ),
        "mushroom": join(
            cut(disc(0, 0.05, 0.95), box(-2, 0.05, 2, 2)), polygon((-0.25, 0), (0.25, 0), (0.35, 0.95), (-0.35, 0.95))
        ),
        "flower": cut(join(*petals, disc(0, 0, 0.4)), disc(0, 0, 0.2)),
        "cloud": join(
            disc(-0.5, 0.15, 0.42),
            disc(0.5, 0.15, 0.42),
            disc(-0.1, -0.2, 0.5),
            disc(0.3, -0.05, 0.4),
            box(-0.5, 0.1, 0.5, 0.57),
        ),
        "drop": join(disc(0, 0.35, 0.6), polygon((0, -1), (0.52, 0.08), (-0.52, 0.08))),
        "flag": join(stroke(0.08, (-0.7, -0.95), (-0.7, 1)), polygon((-0.7, -0.95), (0.9, -0.5), (-0.7, 0))),
        "anchor": join(
            stroke(0.1, (0, -0.5), (0, 0.9)),
            cut(disc(0, -0.72, 0.28), disc(0, -0.72, 0.11)),
            stroke(0.1, (-0.4, -0.25), (0.4, -0.25)),
            stroke(0.12, (-0.85, 0.25), (-0.6, 0.75), (0, 0.92), (0.6, 0.75), (0.85, 0.25)),
        ),
        "butterfly": join(
            oval(-0.52, -0.35, 0.45, 0.5),
            oval(0.52, -0.35, 0.45, 0.5),
            disc(-0.4, 0.45, 0.38),
            disc(0.4, 0.45, 0.38),
            stroke(0.1, (0, -0.7), (0, 0.75)),
        ),
        "rocket": join(
            oval(0, -0.1, 0.34, 0.9),
            polygon((-0.3, 0.2), (-0.75, 0.85), (-0.15, 0.65)),
            polygon((0.3, 0.2), (0.75, 0.85), (0.15, 0.65)),
        ),
    }


def _written(hand: str) -> np.ndarray:
    return join(*[_pen(text) for text in hand.split()])


def _pen(text: str) -> np.ndarray:
    smooth, closed = text[0] in "~@", text[0] == "@"
    pairs = text.lstrip("~@")
    points = [(int(x) / 4 * 1.2 - 0.6, int(y) / 6 * 1.9 - 0.95) for x, y in zip(pairs[::2], pairs[1::2], strict=True)]
    for _ in range(2 if smooth else 0):
        points = _rounded(points, closed)
    return stroke(0.13, *points, closed=closed)


def _rounded(points: list[tuple[float, float]], closed: bool) -> list[tuple[float, float]]:
    """One step of Chaikin's corner cutting."""
    pairs = list(zip(points, [*points[1:], points[0]] if closed else points[1:], strict=closed))
    cuts = [tuple((1 - t) * a + t * b for a, b in zip(p, q, strict=True)) for p, q in pairs for t in (0.25, 0.75)]
    return cuts if closed else [points[0], *cuts[1:-1], points[-1]]
