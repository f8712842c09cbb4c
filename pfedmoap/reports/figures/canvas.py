"""The house style of figures: colours, an empty figure, its legend, and its files."""

from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pfedmoap.system import write_atomically

# One method has one colour in every figure: seaborn's colour-blind-safe palette, greys for what is not trained.
COLORS = {
    "zero_shot": "#949494", "zs_own_classes": "#4d4d4d", "zs_prior": "#c8c8c8",
    "coop": "#de8f05", "promptfl": "#0173b2", "promptfl_ft": "#56b4e9", "fedper": "#cc78bc", "fedprox": "#ca9161",
    "fedamp": "#fbafe4", "pfedprompt": "#ece133", "fedotp": "#d55e00", "fedpgp": "#332288", "pfedmoap": "#029e73",
    "logistic_regression": "#882255", "class_means": "#aa4499", "tip_adapter": "#88ccee", "tip_adapter_f": "#44aa99",
    "clap": "#999933", "fedavg_probe": "#6699cc",
}
OTHER = "#8b5a2b"  # methods that are not part of the package
ACCURACY, PUBLISHED = "accuracy (%)", "published"


def write_figure(figure: Figure, folder: str | Path, name: str) -> list[Path]:
    """Writes <name>.png (150 dpi) and <name>.pdf; returns their paths."""
    paths = [Path(folder) / f"{name}.{ending}" for ending in ("png", "pdf")]
    for path in paths:
        content = BytesIO()
        undated = {"CreationDate": None} if path.suffix == ".pdf" else None  # the same figure gives the same file
        figure.savefig(content, format=path.suffix[1:], dpi=150, metadata=undated)
        write_atomically(path, content.getvalue())
    return paths


@contextmanager
def canvas(*shape: int, **settings):
    """A figure and its axes in the house style; closed for pyplot, so that a notebook shows it once."""
    style = {"grid.color": "0.9", "patch.linewidth": 0, "patch.force_edgecolor": False}
    with sns.axes_style("whitegrid", style), sns.plotting_context("notebook", font_scale=0.85):
        figure, axes = plt.subplots(*shape, layout="constrained", **settings)
        plt.close(figure)
        yield figure, axes
        sns.despine(figure, left=True)


def legend(figure: Figure, axes: Axes) -> None:
    """One legend for the whole figure, below the panels and never over data, as wide as the figure allows."""
    pairs = zip(*axes.get_legend_handles_labels(), strict=True)
    handles, labels = zip(*sorted(pairs, key=lambda pair: pair[1] == PUBLISHED), strict=True)  # that one last
    entry = 0.085 * max(map(len, labels)) + 0.65  # inches
    columns = min(len(labels), 6, max(1, int(figure.get_figwidth() / entry)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
