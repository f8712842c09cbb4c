"""The figures of `06_beyond_the_paper`, one per question. They are returned, not shown."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pfedmoap.beyond.study.numbers import SEEN, curves, measures, summary
from pfedmoap.experiments import Grid, Store
from pfedmoap.reports.figures import ACCURACY, canvas, legend, row_colors

MARKERS = {"run": "o", "controls": "s", "classifiers": "^"}


def base_against_new(grid: Grid, store: Store) -> Figure:
    """Every method's accuracy on base classes against that on new ones; a panel per data set.

    Bars are one standard deviation over seeds. Grey lines: equal harmonic mean of the two. Dots are methods, squares
    controls, triangles plain classifiers.
    """
    numbers = summary(grid, store).set_index(["row", "column", "measure"])
    colors, count = row_colors(grid), len(grid.columns)
    size = 1.5 + 4.3 * count, 5.2 + 0.16 * len(grid.rows)  # the legend has a line for every other row
    with canvas(1, count, figsize=size, squeeze=False, sharey=True) as (figure, axes):
        for panel, column, heading in zip(axes[0], grid.columns, grid.headings(), strict=True):
            _equal_means(panel)
            for row in grid.rows:
                base, new = (numbers.loc[(row.title, column.title, measure)] for measure in ("base", "new"))
                panel.errorbar(base["mean"], new["mean"], xerr=base["std"], yerr=new["std"], fmt=MARKERS[_kind(row)],
                               color=colors[row.title], markersize=7, elinewidth=0.8, label=row.title, zorder=3,
                               markeredgecolor="0.2", markeredgewidth=0.5)
            panel.set(xlabel="base classes: " + ACCURACY, xlim=(0, 100), ylim=(-3, 100), title=heading, aspect="equal")
        axes[0, 0].set_ylabel("new classes: " + ACCURACY)
        legend(figure, axes[0, 0])
    return figure


def _equal_means(axes: Axes) -> None:
    """Where the harmonic mean of the two accuracies is 20, 40, 60 or 80."""
    for mean in (20, 40, 60, 80):
        x = np.linspace(mean / 2 + 0.5, 100, 200)
        y = mean * x / (2 * x - mean)
        axes.plot(x[y <= 100], y[y <= 100], color="0.85", linewidth=1, zorder=1)
        axes.annotate(f"{mean}", (99, mean * 99 / (198 - mean)), color="0.6", fontsize=7, ha="right", va="bottom")


def cold_start(grid: Grid, store: Store) -> Figure:
    """Newcomers by local epochs, above, and by images of each class, below; a column per data set.

    Dashed: the second participation of methods with a pool, for pFedMoAP with its experts and a fresh gate. Bands are
    one standard deviation over seeds.
    """
    points, colors = curves(grid, store), row_colors(grid)
    trained = [row for row in grid.rows if row in grid.compared or row.method.plain]
    count = len(grid.columns)
    with canvas(2, count, figsize=(2 + 4 * count, 7.4), squeeze=False, sharey=True) as (figure, axes):
        for place, (column, heading) in enumerate(zip(grid.columns, grid.headings(), strict=True)):
            here = points[points["column"] == column.title]
            for row in trained:
                own = here[here["row"] == row.title]
                style = ":" if row.method.plain else "-"
                for panel, curve, line in ((axes[0, place], "epochs", style), (axes[0, place], "experts", "--"),
                                           (axes[1, place], "images", style)):
                    _curve(panel, own[own["curve"] == curve], colors[row.title], line,
                           row.title if curve == "epochs" else None)
            partition = next(runs[0].partition for (_, title), runs in grid.cells.items() if title == column.title)
            axes[0, place].set(title=f"{heading}, {partition}", xlabel="local epochs (0: as it comes)",
                               xticks=_points(here, "epochs"))
            axes[1, place].set(xlabel="training images of each class, at most (0: as it comes)",
                               xticks=_points(here, "images"))
        for panel in axes.flat:
            panel.set(ylim=(0, 101))
        for panel in axes[:, 0]:
            panel.set_ylabel("newcomers: " + ACCURACY)
        legend(figure, axes[0, 0])
    return figure


def _points(here: pd.DataFrame, curve: str) -> list[int]:
    return sorted(set(here["at"][here["curve"] == curve].tolist()))


def _curve(axes: Axes, line: pd.DataFrame, color: tuple, style: str, label: str | None) -> None:
    over_seeds = line.groupby("at")["accuracy"]
    mean, std = over_seeds.mean(), over_seeds.std(ddof=0)
    axes.plot(mean.index, mean, style, marker="o", markersize=3.5, color=color, label=label)
    axes.fill_between(mean.index, (mean - std).clip(lower=0), (mean + std).clip(upper=100), color=color, alpha=0.12,
                      linewidth=0)


def domains_left_out(grid: Grid, store: Store) -> Figure:
    """A line per method: small dots are domains left out, the large one their mean, the ring its own domains' mean."""
    colors, lines = row_colors(grid), measures(grid, store)
    means = lines.groupby(["row", "column", "measure"])["accuracy"].mean()
    with canvas(figsize=(7.5, 1.2 + 0.32 * len(grid.rows))) as (figure, axes):
        shapes = dict(zip([column.title for column in grid.columns], "v^<>Ds*Xd", strict=False))
        for position, row in enumerate(grid.rows):
            unseen = {column: means[row.title, column, "unseen"] for column in shapes}
            seen = np.mean([means[row.title, column, SEEN] for column in shapes])
            axes.plot([np.mean(list(unseen.values())), seen], [position] * 2, color="0.8", linewidth=1, zorder=1)
            for column, heading in zip(shapes, grid.headings(), strict=True):
                axes.plot(unseen[column], position, shapes[column], color=colors[row.title], markersize=5, alpha=0.7,
                          label=None if position else f"without {heading}", linestyle="none")
            axes.plot(np.mean(list(unseen.values())), position, "o", color=colors[row.title], markersize=10,
                      markeredgecolor="0.2", zorder=3, label=None if position else "unseen, mean", linestyle="none")
            axes.plot(seen, position, "o", color="white", markeredgecolor=colors[row.title], markeredgewidth=1.8,
                      markersize=9, label=None if position else "own domains, mean", linestyle="none")
        axes.set_yticks(range(len(grid.rows)), [row.title for row in grid.rows])
        axes.set(xlabel=ACCURACY, xlim=(0, 101))
        axes.invert_yaxis()
        legend(figure, axes)
    return figure


def _kind(row) -> str:
    return "classifiers" if row.method.plain else "controls" if row.control else "run"
