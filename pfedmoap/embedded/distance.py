"""Signed distance fields on one square grid: negative inside a figure, positive outside, in the figure's units.

A figure fills about [-1, 1] x [-1, 1], x to the right and y down; the grid reaches a little further so that outlines
and backgrounds have a distance too.
"""

from collections.abc import Sequence

import numpy as np

EXTENT = 1.6
SIZE = 65

_axis = np.linspace(-EXTENT, EXTENT, SIZE)
X, Y = np.meshgrid(_axis, _axis)  # (SIZE, SIZE) each

Point = tuple[float, float]


def disc(x: float, y: float, radius: float) -> np.ndarray:
    """A filled circle."""
    return np.sqrt((X - x) ** 2 + (Y - y) ** 2) - radius


def oval(x: float, y: float, width: float, height: float) -> np.ndarray:
    """An ellipse with the given half axes (a close approximation of the distance)."""
    return (np.sqrt(((X - x) / width) ** 2 + ((Y - y) / height) ** 2) - 1) * min(width, height)


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """An upright rectangle."""
    return polygon((left, top), (right, top), (right, bottom), (left, bottom))


def polygon(*corners: Point) -> np.ndarray:
    """A filled polygon; corners in order, not repeated at the end."""
    inside = np.zeros(X.shape, bool)
    for (x0, y0), (x1, y1) in _edges(corners, closed=True):
        if y0 != y1:  # a ray to the right crosses this edge
            crosses = (y0 > Y) != (y1 > Y)
            inside ^= crosses & (X < (x1 - x0) * (Y - y0) / (y1 - y0) + x0)
    edge = _to_edges(corners, closed=True)
    return np.where(inside, -edge, edge)


def stroke(width: float, *points: Point, closed: bool = False) -> np.ndarray:
    """A pen line of the given half width through the points, with round ends."""
    return _to_edges(points, closed) - width


def regular(corners: int, radius: float, turn: float = 0.0) -> list[Point]:
    """Corners of a regular polygon, the first one at the top; `turn` is a fraction of a full turn."""
    angles = 2 * np.pi * (np.arange(corners) / corners + turn)
    return [(round(radius * np.sin(a), 6), round(-radius * np.cos(a), 6)) for a in angles]


def join(*figures: np.ndarray) -> np.ndarray:
    """Everything that is in any of the figures."""
    return np.minimum.reduce(figures)


def cut(figure: np.ndarray, *holes: np.ndarray) -> np.ndarray:
    """A figure without the holes."""
    return np.maximum(figure, -np.minimum.reduce(holes))


def _edges(points: Sequence[Point], closed: bool) -> list[tuple[Point, Point]]:
    following = [*points[1:], points[0]] if closed else points[1:]
    return list(zip(points, following, strict=closed))


def _to_edges(points: Sequence[Point], closed: bool) -> np.ndarray:
    nearest = np.full(X.shape, np.inf)
    for (x0, y0), (x1, y1) in _edges(points, closed):
        dx, dy = x1 - x0, y1 - y0
        along = ((X - x0) * dx + (Y - y0) * dy) / max(dx * dx + dy * dy, 1e-12)
        along = np.clip(along, 0, 1)
        nearest = np.minimum(nearest, (X - x0 - along * dx) ** 2 + (Y - y0 - along * dy) ** 2)
    return np.sqrt(nearest)
