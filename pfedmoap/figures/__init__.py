"""Figures of a grid and of one run. They are returned, not shown; `write_figure` puts one on disk."""

from pfedmoap.figures.canvas import ACCURACY, COLORS, OTHER, PUBLISHED, canvas, legend, write_figure
from pfedmoap.figures.grid import (
    accuracy_bars,
    accuracy_by_round,
    client_spread,
    curves,
    protocol_bars,
    row_colors,
    traffic,
)
from pfedmoap.figures.protocols import difference_heatmap, label_bars, label_samples, shared_schedule
from pfedmoap.figures.single import client_bars, image_samples, learning_curves, partition_heatmap, run_traffic

__all__ = [
    "ACCURACY", "COLORS", "OTHER", "PUBLISHED", "accuracy_bars", "accuracy_by_round", "canvas", "client_bars",
    "client_spread", "curves", "difference_heatmap", "image_samples", "label_bars", "label_samples",
    "learning_curves", "legend", "partition_heatmap", "protocol_bars", "row_colors", "run_traffic",
    "shared_schedule", "traffic", "write_figure",
]
