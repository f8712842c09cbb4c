"""The words that describe a picture besides its figure, and what each of them does to the pixels."""

from dataclasses import dataclass

import numpy as np

from pfedmoap.embedded.distance import X, Y

COLOURS = {
    "red": (0.86, 0.12, 0.14),
    "orange": (0.96, 0.55, 0.08),
    "yellow": (0.97, 0.90, 0.15),
    "green": (0.13, 0.62, 0.22),
    "cyan": (0.20, 0.84, 0.86),
    "blue": (0.13, 0.27, 0.82),
    "purple": (0.50, 0.18, 0.66),
    "pink": (0.96, 0.56, 0.74),
    "brown": (0.46, 0.27, 0.12),
    "gray": (0.52, 0.52, 0.52),
    "white": (0.97, 0.97, 0.97),
    "black": (0.06, 0.06, 0.06),
}
TEXTURES = ("solid", "striped", "dotted", "checkered", "zigzag", "gridded", "ringed", "speckled")


@dataclass(frozen=True)
class Style:
    """How a picture is made, as amounts between 0 and 1 unless noted.

    Attributes:
        fill: opacity of the figure's body.
        line: half width of the outline in pixels; 0 draws none.
        paper: how far the background is mixed towards white.
        wobble: displacement of the contour, in figure units.
        blur: weight of the three-pixel box blur.
        noise: amplitude of the grain.
        colour: saturation; 0 is grayscale.
        clutter: amplitude of the smooth background structure.
        bars: opacity of chart-like bars behind the figure.
        tiles: how many times the picture is repeated along each side.
        contrast: of the whole picture around mid-gray.
    """

    fill: float = 1.0
    line: float = 0.0
    paper: float = 0.0
    wobble: float = 0.06
    blur: float = 0.0
    noise: float = 0.05
    colour: float = 1.0
    clutter: float = 0.2
    bars: float = 0.0
    tiles: int = 1
    contrast: float = 1.0


STYLES = {
    "picture": Style(),
    "photo": Style(blur=0.7, noise=0.12, clutter=0.7, contrast=0.9),
    "sketch": Style(fill=0.3, line=0.6, paper=0.95, wobble=0.10, noise=0.10, colour=0.0, clutter=0.05),
    "quickdraw": Style(fill=0.0, line=0.5, paper=1.0, wobble=0.22, noise=0.0, colour=0.0, clutter=0.0),
    "clipart": Style(line=1.0, paper=0.8, wobble=0.02, noise=0.0, clutter=0.0, contrast=1.1),
    "painting": Style(wobble=0.20, blur=0.5, noise=0.20, clutter=0.9, colour=0.8),
    "infograph": Style(paper=0.6, wobble=0.02, noise=0.0, clutter=0.0, bars=0.7),
    "product": Style(paper=1.0, wobble=0.02, noise=0.02, clutter=0.0),
    "webcam": Style(blur=1.0, noise=0.22, clutter=0.4, colour=0.6, contrast=0.6),
    "grayscale": Style(colour=0.0, noise=0.06, clutter=0.3),
    "wallpaper": Style(tiles=2, noise=0.03, clutter=0.1),
}
COLOURLESS = tuple(name for name, style in STYLES.items() if style.colour == 0)
TEXTURELESS = tuple(name for name, style in STYLES.items() if style.fill == 0)


@dataclass(frozen=True)
class View:
    """Light or processing of the whole picture: new colour = matrix @ colour + offset."""

    matrix: tuple[tuple[float, float, float], ...]
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)


def _diagonal(red: float, green: float, blue: float) -> tuple[tuple[float, float, float], ...]:
    return (red, 0.0, 0.0), (0.0, green, 0.0), (0.0, 0.0, blue)


VIEWS = {
    "plain": View(_diagonal(1, 1, 1)),
    "warm": View(((0.70, 0.30, 0.0), (0.10, 0.65, 0.0), (0.0, 0.10, 0.30)), (0.15, 0.03, 0.0)),
    "cool": View(((0.30, 0.10, 0.0), (0.0, 0.65, 0.15), (0.0, 0.30, 0.70)), (0.0, 0.05, 0.15)),
    "negative": View(_diagonal(-1, -1, -1), (1.0, 1.0, 1.0)),
    "dark": View(_diagonal(0.38, 0.38, 0.42)),
    "faded": View(((0.35, 0.08, 0.05), (0.08, 0.35, 0.05), (0.08, 0.08, 0.30)), (0.45, 0.44, 0.42)),
}

_GRAY = np.array([0.30, 0.59, 0.11])  # luminance of red, green and blue


def colour_transforms() -> tuple[np.ndarray, np.ndarray]:
    """What style and view together do to colours.

    Returns:
        matrices (styles, views, 3, 3) and offsets (styles, views, 3), float32.
    """
    matrices = np.empty((len(STYLES), len(VIEWS), 3, 3))
    offsets = np.empty((len(STYLES), len(VIEWS), 3))
    for s, style in enumerate(STYLES.values()):
        toned = style.contrast * (style.colour * np.eye(3) + (1 - style.colour) * _GRAY)
        for v, view in enumerate(VIEWS.values()):
            matrix = np.array(view.matrix)
            matrices[s, v] = matrix @ toned
            offsets[s, v] = matrix @ np.full(3, 0.5 * (1 - style.contrast)) + np.array(view.offset)
    return np.round(matrices, 5).astype(np.float32), np.round(offsets, 5).astype(np.float32)


def texture_fields() -> np.ndarray:
    """How much of the second colour there is at each point of a figure: (textures, SIZE, SIZE) float32 in [0, 1]."""

    def wave(t: np.ndarray) -> np.ndarray:  # triangle wave with period 1 and range [0, 1]
        return np.abs(2 * (t - np.floor(t)) - 1)

    def crisp(t: np.ndarray, threshold: float) -> np.ndarray:
        return np.clip((t - threshold) * 6 + 0.5, 0, 1)

    period = 0.62
    x, y = X / period, Y / period
    dots = np.sqrt(wave(x) ** 2 + wave(y) ** 2)
    speckles = np.random.default_rng(7).random((13, 13)).repeat(5, 0).repeat(5, 1)
    fields = {
        "solid": np.zeros_like(X),
        "striped": crisp(wave(x), 0.5),
        "dotted": crisp(1 - dots, 0.42),
        "checkered": np.where(crisp(wave(x), 0.5) > 0.5, crisp(wave(y), 0.5), 1 - crisp(wave(y), 0.5)),
        "zigzag": crisp(wave(y + 0.9 * wave(x)), 0.5),
        "gridded": np.maximum(crisp(wave(x), 0.72), crisp(wave(y), 0.72)),
        "ringed": crisp(wave(np.sqrt(X**2 + Y**2) / (0.8 * period)), 0.5),
        "speckled": crisp(speckles, 0.62),
    }
    return np.round(np.stack([fields[name] for name in TEXTURES]), 4).astype(np.float32)
