"""Captioned pictures to pre-train on: fresh ones for every step, from draws that no data set uses."""

import numpy as np

from pfedmoap.embedded.captions import caption, tokens
from pfedmoap.embedded.drawing import draw
from pfedmoap.embedded.figures import CHARACTERS, NAMES, PATTERN, SHAPES
from pfedmoap.embedded.palette import COLOURS, STYLES, TEXTURES, VIEWS
from pfedmoap.embedded.scenes import FIGURE, VIEW, compose
from pfedmoap.randomness import generator

_SHARES = {"shape": 0.58, "character": 0.27, "pattern": 0.15}


def held_out(figure: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Whether a pair of shape and colour is left to the data sets: every fifth is, boolean like the arguments."""
    return (np.asarray(figure) < len(SHAPES)) & ((np.asarray(figure) + colour) % 5 == 0)


def batch(seed: int, step: int, size: int) -> tuple[np.ndarray, list[list[int]]]:
    """The pictures and captions of one step.

    Returns:
        (size, 32, 32, 3) uint8 and one list of tokens per picture.
    """
    random = generator(seed, "pre-training", step)
    scenes = training_scenes(random, size)
    return draw(scenes), [tokens(caption(scene, random)) for scene in scenes]


def training_scenes(random: np.random.Generator, count: int) -> np.ndarray:
    """Draws scenes of all kinds; see `held_out` for what is missing."""
    figure = _figures(random, count)
    character = (figure >= len(SHAPES)) & (figure < len(SHAPES) + len(CHARACTERS))
    colour = random.integers(0, len(COLOURS), count)
    colour = np.where(held_out(figure, colour), (colour + 1) % len(COLOURS), colour)
    texture = random.integers(0, len(TEXTURES), count)
    solid = random.random(count) < np.where(character, 0.9, np.where(figure == FIGURE[PATTERN], 0.0, 0.3))
    texture = np.where(solid, TEXTURES.index("solid"), texture)
    style = np.where(random.random(count) < 0.45, 0, random.integers(1, len(STYLES), count))
    view = np.where(random.random(count) < 0.45, VIEW["plain"], random.integers(1, len(VIEWS), count))
    return compose(random, figure, colour, texture, style, view)


def _figures(random: np.random.Generator, count: int) -> np.ndarray:
    """Indices into `NAMES`: shapes come first there, then characters, then the pattern."""
    shape = random.integers(0, len(SHAPES), count)
    character = random.integers(len(SHAPES), len(SHAPES) + len(CHARACTERS), count)
    kind = random.choice(3, size=count, p=list(_SHARES.values()))
    return np.choose(kind, [shape, character, np.full(count, len(NAMES) - 1)])
