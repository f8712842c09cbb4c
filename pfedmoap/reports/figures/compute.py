"""Accuracy against what it costs, for a comparison of methods at equal cost."""

from matplotlib.figure import Figure

from pfedmoap.experiments import Grid, Store
from pfedmoap.methods import ZeroShot
from pfedmoap.reports.figures.canvas import ACCURACY, canvas, legend
from pfedmoap.reports.figures.grid import row_colors
from pfedmoap.reports.numbers import by_cost

AXES = {"steps": ("local steps of all clients", 1), "seconds": ("seconds of training", 1),
        "bytes": ("MiB sent and received", 2**20)}  # a panel each: what is on its axis, and its unit


def accuracy_by_cost(grid: Grid, store: Store) -> Figure:
    """Accuracy, mean over data sets and seeds, against what had been spent: a curve per method, a point per round.

    Untrained methods spend nothing and are dashed lines.
    """
    grid = grid.filled
    curves, colors = by_cost(grid, store), row_colors(grid)
    with canvas(1, len(AXES), figsize=(11, 4.4), sharey=True) as (figure, panels):
        for axes, (cost, (label, unit)) in zip(panels, AXES.items(), strict=True):
            for row in grid.compared:
                own = curves[curves["row"] == row.title]
                style = {"color": colors[row.title], "label": row.title}
                if isinstance(row.method, ZeroShot):
                    axes.axhline(own["accuracy"].iloc[-1], linestyle="--", **style)
                else:
                    axes.plot(own[cost] / unit, own["accuracy"], "o-", markersize=3.5, **style)
            axes.set(xlabel=label)
            axes.set_xlim(left=-0.03 * axes.get_xlim()[1])
        panels[0].set_ylabel(ACCURACY)
        legend(figure, panels[0])
    return figure
