"""Scenes: everything that decides how a picture looks, as rows of numbers drawn at random around given words."""

import numpy as np

from pfedmoap.embedded.figures import CHARACTERS, NAMES, PATTERN, figures
from pfedmoap.embedded.palette import COLOURS, STYLES, VIEWS

NOISE_TILES = 64

# One row per picture. Words first (indices into NAMES, COLOURS, TEXTURES, STYLES and VIEWS), then nuisance.
SCENE = np.dtype(
    [
        ("figure", "i2"), ("colour", "i2"), ("texture", "i2"), ("style", "i2"), ("view", "i2"),
        ("form", "i2"),                # which of the figure's distance fields
        ("inverse", "f4", (2, 3)),     # pixel -> figure coordinates
        ("radius", "f4"),              # in pixels
        ("ink", "f4", (3,)),           # the figure's colour, and the second colour of its texture
        ("second", "f4", (3,)),
        ("ground", "f4", (3,)),
        ("cloud", "f4", (3,)),         # the colour into which clutter shades the ground
        ("tiles", "i2", (4, 3)),       # (tile, row, column) of the wobble in x and y, the clutter and the grain
        ("amount", "f4", (3,)),        # wobble, clutter and grain, relative to the style's own
        ("blur", "f4"),
        ("bar", "f4", (4,)),           # an occluding bar: normal x, normal y, offset, half width (negative: no bar)
        ("bar_colour", "f4", (3,)),
        ("light", "f4", (3,)),         # gain at the centre, slope in x and in y
    ]
)  # fmt: skip
FIGURE = {name: index for index, name in enumerate(NAMES)}
COLOUR = {name: index for index, name in enumerate(COLOURS)}
STYLE = {name: index for index, name in enumerate(STYLES)}
VIEW = {name: index for index, name in enumerate(VIEWS)}

_CHARACTER = np.isin(NAMES, CHARACTERS)
_INKS = np.array(list(COLOURS.values()), np.float32)


def compose(
    random: np.random.Generator,
    figure: np.ndarray,
    colour: np.ndarray,
    texture: np.ndarray,
    style: np.ndarray,
    view: np.ndarray,
) -> np.ndarray:
    """Draws the nuisance around the given words.

    Args:
        random: consumed in a fixed order; the scenes depend on it and on the words alone.
        figure, colour, texture, style, view: (n,) indices into `NAMES`, `COLOURS`, `TEXTURES`, `STYLES`, `VIEWS`.

    Returns:
        (n,) array of `SCENE` rows.
    """
    n = len(figure)
    scenes = np.zeros(n, SCENE)
    for word, values in zip(
        ("figure", "colour", "texture", "style", "view"), (figure, colour, texture, style, view), strict=True
    ):
        scenes[word] = values
    forms = figures()
    scenes["form"] = forms.first[figure] + np.floor(random.random(n) * forms.count[figure]).astype(int)
    _place(scenes, random)
    _paint(scenes, random)
    scenes["tiles"] = random.integers(0, (NOISE_TILES, 32, 32), size=(n, 4, 3))
    scenes["amount"] = random.uniform(0.6, 1.4, (n, 3))
    scenes["blur"] = random.uniform(0.0, 0.35, n)
    angle = random.uniform(0, 2 * np.pi, n)
    has_bar = random.random(n) < 0.12
    scenes["bar"] = np.stack([np.cos(angle), np.sin(angle), random.uniform(-9, 9, n), np.where(has_bar, 1.3, -9.0)], 1)
    scenes["bar_colour"] = random.random((n, 3))
    scenes["light"] = random.uniform((0.85, -0.012, -0.012), (1.12, 0.012, 0.012), (n, 3))
    # Trigonometric functions may differ in the last bit from machine to machine: keep four decimals only.
    scenes["bar"] = np.round(scenes["bar"], 4)
    return scenes


def _place(scenes: np.ndarray, random: np.random.Generator) -> None:
    """Position, size, rotation, slant and aspect of the figure."""
    n = len(scenes)
    is_pattern = scenes["figure"] == FIGURE[PATTERN]
    is_character = _CHARACTER[scenes["figure"]]
    radius = np.where(is_pattern, random.uniform(10.5, 15, n), random.uniform(8.5, 13.5, n))
    centre = random.uniform(-1, 1, (2, n)) * np.maximum(15.0 - radius, 2.0)
    # Digits and letters change their meaning when turned far.
    angle = random.uniform(-1, 1, n) * np.where(is_character, 0.2, 0.45)
    slant = random.uniform(-0.25, 0.25, n)
    stretch = random.uniform(0.85, 1.18, n)
    cos, sin = np.cos(angle), np.sin(angle)
    across, down = radius * stretch, radius / stretch
    # figure = scale^-1 @ shear @ rotation @ (pixel - centre)
    rows = np.array([[cos + slant * sin, sin - slant * cos], [-sin, cos]]) / np.array([across, down])[:, None]
    shift = -(rows[:, 0] * centre[0] + rows[:, 1] * centre[1])
    scenes["inverse"] = np.round(np.moveaxis(np.concatenate([rows, shift[:, None]], 1), 2, 0), 5)
    scenes["radius"] = np.round(radius, 3)


def _paint(scenes: np.ndarray, random: np.random.Generator) -> None:
    """Colours of figure, texture and ground; ground and texture stand out from the figure."""
    n = len(scenes)
    ink = np.clip(_INKS[scenes["colour"]] + random.uniform(-0.07, 0.07, (n, 3)), 0, 1)
    bright = 0.30 * ink[:, 0] + 0.59 * ink[:, 1] + 0.11 * ink[:, 2] > 0.5
    contrast = random.uniform(0.6, 0.9, (n, 1))
    scenes["ink"] = ink
    scenes["second"] = ink * (1 - contrast) + np.where(bright, 0.05, 0.95)[:, None] * contrast
    candidates = random.random((n, 6, 3))
    distance = np.abs(candidates - ink[:, None]).sum(2)
    scenes["ground"] = candidates[np.arange(n), np.argmax(np.minimum(distance, 0.9), 1)]
    scenes["cloud"] = random.random((n, 3))
