"""Draws scenes: 32 x 32 colour pictures, each a pure function of its row of numbers.

Only sums, products, quotients and table look-ups touch pixels, in a fixed order and in float32, so that a scene gives
the same bytes whichever machine draws it and whichever scenes are drawn beside it.
"""

import functools

import numpy as np

from pfedmoap.embedded.distance import EXTENT, SIZE
from pfedmoap.embedded.figures import figures
from pfedmoap.embedded.palette import STYLES, colour_transforms, texture_fields
from pfedmoap.embedded.scenes import NOISE_TILES

PIXELS = 32
_CHUNK = 32  # scenes drawn at once: their planes stay in the processor's cache
_CENTRES = np.arange(PIXELS, dtype=np.float32) - np.float32((PIXELS - 1) / 2)
_STYLE = {
    field: np.array([getattr(style, field) for style in STYLES.values()], np.float32)
    for field in ("fill", "line", "paper", "wobble", "blur", "noise", "clutter", "bars", "tiles")
}
_TRANSFORMS = colour_transforms()


def draw(scenes: np.ndarray) -> np.ndarray:
    """Draws scenes.

    Args:
        scenes: (n,) rows of `SCENE`.

    Returns:
        (n, 32, 32, 3) uint8.
    """
    pictures = np.empty((len(scenes), PIXELS, PIXELS, 3), np.uint8)
    for start in range(0, len(scenes), _CHUNK):
        pictures[start : start + _CHUNK] = _draw_chunk(scenes[start : start + _CHUNK])
    return pictures


def _draw_chunk(scenes: np.ndarray) -> np.ndarray:
    style = {field: values[scenes["style"]][:, None, None] for field, values in _STYLE.items()}  # (n, 1, 1) each
    distance, texture = _figure(scenes, style)  # (n, 32, 32) each
    body = _clip(0.5 - distance) * style["fill"]
    line = _clip(0.5 + style["line"] - np.abs(distance)) * (style["line"] > 0)

    image = _ground(scenes, style)  # (n, 3, 32, 32)
    ink = scenes["ink"][:, :, None, None]
    image += body[:, None] * (ink + texture[:, None] * (scenes["second"][:, :, None, None] - ink) - image)
    image += line[:, None] * (np.float32(0.08) - image)
    image += _bar(scenes)[:, None] * (scenes["bar_colour"][:, :, None, None] - image)
    image = _develop(image, scenes, style)
    return (image * np.float32(255) + np.float32(0.5)).astype(np.uint8).transpose(0, 2, 3, 1)


def _figure(scenes: np.ndarray, style: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The figure's signed distance in pixels, and its texture, at every pixel."""
    x, y = _coordinates(scenes, style["tiles"])
    wobble = style["wobble"] * scenes["amount"][:, 0, None, None]
    x += wobble * (_window("smooth", scenes["tiles"][:, 0]) - np.float32(0.5))
    y += wobble * (_window("smooth", scenes["tiles"][:, 1]) - np.float32(0.5))
    corner, right, down = _cells(x, y)
    radius = (scenes["radius"] / style["tiles"][:, 0, 0])[:, None, None]
    distance = _interpolate(figures().fields, scenes["form"], corner, right, down) * radius
    texture = _interpolate(_textures(), scenes["texture"], corner, right, down)
    return distance, texture


def _coordinates(scenes: np.ndarray, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Figure coordinates of every pixel, (n, 32, 32) each; with tiles, the picture repeats along both sides."""
    half = np.float32(PIXELS / 2)
    repeated = (_CENTRES + half) * tiles[:, :, 0]  # (n, 32)
    position = repeated - half - np.floor(repeated / PIXELS) * PIXELS
    across, down = position[:, None, :], position[:, :, None]
    a = scenes["inverse"][:, :, :, None, None]
    x = a[:, 0, 0] * across + a[:, 0, 1] * down + a[:, 0, 2]
    y = a[:, 1, 0] * across + a[:, 1, 1] * down + a[:, 1, 2]
    return x, y


def _ground(scenes: np.ndarray, style: dict[str, np.ndarray]) -> np.ndarray:
    """The background: a colour, clouds of another one, chart bars, and paper over it all."""
    ground = scenes["ground"][:, :, None, None]
    clutter = style["clutter"] * scenes["amount"][:, 1, None, None] * _window("smooth", scenes["tiles"][:, 2])
    image = ground + _clip(clutter)[:, None] * (scenes["cloud"][:, :, None, None] - ground)
    image += style["paper"][:, None] * (np.float32(0.96) - image)
    bars = style["bars"] * _window("bars", scenes["tiles"][:, 3])
    image += bars[:, None] * (scenes["cloud"][:, :, None, None] - image)
    return image


def _bar(scenes: np.ndarray) -> np.ndarray:
    """Opacity of the bar that hides a part of some pictures."""
    normal_x, normal_y, offset, width = scenes["bar"].T[:, :, None, None]
    return _clip(0.5 + width - np.abs(normal_x * _CENTRES + normal_y * _CENTRES[:, None] - offset))


def _develop(image: np.ndarray, scenes: np.ndarray, style: dict[str, np.ndarray]) -> np.ndarray:
    """Blur, light, grain, and the colours of style and view; clipped to [0, 1]."""
    blur = np.maximum(style["blur"], scenes["blur"][:, None, None])[:, None] / 3
    for axis in (2, 3):
        padded = np.pad(image, [(1, 1) if a == axis else (0, 0) for a in range(4)], mode="edge")
        before, after = (padded[:, :, :-2], padded[:, :, 2:]) if axis == 2 else (padded[..., :-2], padded[..., 2:])
        image = image + blur * (before + after - 2 * image)
    gain, slope_x, slope_y = scenes["light"].T[:, :, None, None]
    image *= (gain + slope_x * _CENTRES + slope_y * _CENTRES[:, None])[:, None]
    grain = _window("grain", scenes["tiles"][:, 3]) - np.float32(0.5)
    image += (style["noise"] * scenes["amount"][:, 2, None, None] * grain)[:, None]
    matrix, offset = (table[scenes["style"], scenes["view"]] for table in _TRANSFORMS)
    matrix = matrix[..., None, None]
    toned = np.broadcast_to(offset[:, :, None, None], image.shape).copy()
    for channel in range(3):
        toned += matrix[:, :, channel] * image[:, None, channel]
    return _clip(toned)


def _clip(values: np.ndarray) -> np.ndarray:
    return np.clip(values, np.float32(0), np.float32(1))


def _cells(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Upper left grid index of each point within a field, and the fractions to its right and lower neighbours."""
    scale, last = np.float32((SIZE - 1) / (2 * EXTENT)), np.float32(SIZE - 1.001)
    column = np.clip((x + np.float32(EXTENT)) * scale, np.float32(0), last)
    row = np.clip((y + np.float32(EXTENT)) * scale, np.float32(0), last)
    left, top = column.astype(np.int32), row.astype(np.int32)
    return top * SIZE + left, column - left.astype(np.float32), row - top.astype(np.float32)


def _interpolate(
    fields: np.ndarray, which: np.ndarray, corner: np.ndarray, right: np.ndarray, down: np.ndarray
) -> np.ndarray:
    """Bilinear values of `fields[which]` at the given cells."""
    flat = fields.reshape(-1)
    index = corner + (which.astype(np.int32) * SIZE * SIZE)[:, None, None]
    upper = flat[index]
    upper += right * (flat[index + 1] - upper)
    lower = flat[index + SIZE]
    lower += right * (flat[index + SIZE + 1] - lower)
    return upper + down * (lower - upper)


@functools.cache
def _textures() -> np.ndarray:
    return texture_fields()


def _window(kind: str, place: np.ndarray) -> np.ndarray:
    """A 32 x 32 piece of a noise tile for each (tile, row, column) in `place`."""
    return _tiles(kind)[place[:, 0], place[:, 1], place[:, 2]]


@functools.cache
def _tiles(kind: str) -> np.ndarray:
    """Views of all 32 x 32 windows of the noise tiles, values in [0, 1]; kind is smooth, grain or bars."""
    random = np.random.default_rng(11)
    side = 2 * PIXELS
    if kind == "grain":
        tiles = random.random((NOISE_TILES, side, side), np.float32)
    elif kind == "smooth":
        tiles = _stretch(
            _stretch(random.random((NOISE_TILES, side // 8 + 1, side // 8 + 1), np.float32)).swapaxes(1, 2)
        ).swapaxes(1, 2)
    else:
        heights = random.integers(4, 28, (NOISE_TILES, 16)).repeat(side // 16, 1)[:, None, :]
        rows = np.arange(side)[:, None] % PIXELS
        tiles = ((rows > heights) & (np.arange(side) % 4 < 3)).astype(np.float32)
    return np.lib.stride_tricks.sliding_window_view(np.ascontiguousarray(tiles), (PIXELS, PIXELS), axis=(1, 2))


def _stretch(tiles: np.ndarray) -> np.ndarray:
    """Linear interpolation to eight times as many rows."""
    fraction = ((np.arange(8) + 0.5) / 8).astype(np.float32)[:, None]
    pieces = tiles[:, :-1, None] + fraction * (tiles[:, 1:, None] - tiles[:, :-1, None])
    return pieces.reshape(len(tiles), -1, tiles.shape[2])
