"""Figures of a grid and of one run. They are returned, not shown; `write_figure` puts one on disk."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "canvas": ["ACCURACY", "COLORS", "OTHER", "PUBLISHED", "canvas", "legend", "write_figure"],
        "compute": ["accuracy_by_cost"],
        "grid": [
            "accuracy_bars", "accuracy_by_round", "client_spread", "curves", "protocol_bars", "rank_diagram",
            "row_colors", "traffic",
        ],
        "verdicts": ["forest"],
        "single": ["client_bars", "image_samples", "learning_curves", "partition_heatmap", "run_traffic"],
    },
)
