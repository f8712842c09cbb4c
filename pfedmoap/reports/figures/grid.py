"""Figures of a grid: a table as a picture."""

from contextlib import contextmanager

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pfedmoap.experiments import Grid, Row, Store
from pfedmoap.methods import ZeroShot
from pfedmoap.reports.figures.canvas import ACCURACY, COLORS, OTHER, PUBLISHED, canvas, legend
from pfedmoap.reports.numbers import cells, clients, rounds, summary
from pfedmoap.reports.statistics import alike, ranks


def accuracy_bars(grid: Grid, store: Store) -> Figure:
    """The table as grouped bars: mean and standard deviation over seeds; published values only beside the same data."""
    grid = grid.filled
    numbers = summary(grid, store).set_index(["row", "column"])
    colors, columns = row_colors(grid), [column.title for column in grid.columns]
    width = 0.84 / len(grid.compared)
    with canvas(figsize=(max(6, 1.2 + 1.9 * len(columns)), 3.9)) as (figure, axes):
        for position, row in enumerate(row.title for row in grid.compared):
            at = np.arange(len(columns)) + (position - (len(grid.compared) - 1) / 2) * width
            line = numbers.loc[row].loc[columns]
            spread = line["std"] if line["seeds"].max() > 1 else None
            axes.bar(at, line["mean"], width * 0.94, yerr=spread, color=colors[row], label=row,
                     error_kw={"elinewidth": 1, "capsize": 2, "ecolor": "0.2"})
            if grid.profile == "paper":
                axes.plot(at, line["published_mean"], "D", markersize=5, fillstyle="none", color="black", clip_on=False,
                          label=PUBLISHED if position == len(grid.compared) - 1 else None)
        axes.set(ylabel=ACCURACY, ylim=(0, 100), xlim=(-0.5, len(columns) - 0.5))
        axes.set_xticks(range(len(columns)), grid.headings())
        axes.grid(axis="x", visible=False)
        legend(figure, axes)
    return figure


def accuracy_by_round(grid: Grid, store: Store) -> Figure:
    """Mean over seeds after every round, with a band of one standard deviation; untrained rows are dashed lines."""
    grid = grid.filled
    data = rounds(grid, store)
    colors = row_colors(grid)
    with _panels(grid, height=3.1) as (figure, panels):
        for axes, column in zip(panels, grid.columns, strict=True):
            for row in grid.compared:
                here = data[(data["row"] == row.title) & (data["column"] == column.title)]
                over_seeds = here.groupby("round")["accuracy"]
                mean, std = over_seeds.mean(), over_seeds.std(ddof=0)
                color, style = colors[row.title], "--" if isinstance(row.method, ZeroShot) else "o-"
                axes.plot(mean.index, mean, style, color=color, label=row.title, markersize=3.5)
                low, high = (mean - std).clip(lower=0), (mean + std).clip(upper=100)
                axes.fill_between(mean.index, low, high, color=color, alpha=0.2, linewidth=0)
            axes.set(xlabel="round")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        panels[0].set_ylabel(ACCURACY)
        legend(figure, panels[0])
    return figure


def client_spread(grid: Grid, store: Store) -> Figure:
    """Every client of every seed after the last round; triangles mark each seed's worst client, bars the mean."""
    grid = grid.filled
    data = clients(grid, store)
    colors = row_colors(grid)
    with _panels(grid, height=1.3 + 0.42 * len(grid.rows)) as (figure, panels):
        for axes, column in zip(panels, grid.columns, strict=True):
            here = data[data["column"] == column.title]
            with _same_jitter():
                sns.stripplot(here, x="accuracy", y="row", hue="row", order=list(colors), palette=colors, legend=False,
                              size=4, alpha=0.55, jitter=0.22, ax=axes)
            mean = here.groupby("row")["accuracy"].mean()
            worst = here.groupby(["row", "seed"])["accuracy"].min()
            for position, row in enumerate(colors):
                axes.plot([mean[row]] * 2, [position - 0.34, position + 0.34], color="0.15", linewidth=2, zorder=3,
                          label=None if position else "mean over clients and seeds")
                axes.plot(worst[row], [position] * len(worst[row]), "v", color="0.15", markersize=6, zorder=4,
                          markerfacecolor=colors[row], linestyle="none",
                          label=None if position else "worst client of a seed")
            axes.set(xlabel=ACCURACY, ylabel="", xlim=(-3, 103))
        legend(figure, panels[0])
    return figure


def curves(grid: Grid, store: Store, what: str = "mean") -> Figure:
    """A panel per data set: the number that the grid varies against accuracy, one curve per method.

    The band is one standard deviation over seeds; diamonds are published cells, only beside the same data.

    Args:
        what: "mean" (accuracy in percent), or "attention_entropy" (1: all experts weigh the same).
    """
    grid = grid.filled
    numbers = summary(grid, store).set_index(["row", "column"])
    rows = sorted((row for row in grid.rows if row.curve), key=lambda row: row.x)
    titles = list(dict.fromkeys(row.curve for row in grid.rows if row.curve))
    with _panels(grid, height=3.1) as (figure, panels):
        for axes, column in zip(panels, grid.columns, strict=True):
            for place, curve in enumerate(titles, 1):
                points = [row for row in rows if row.curve == curve]
                line = numbers.loc[[(row.title, column.title) for row in points]].assign(x=[row.x for row in points])
                style = {"color": COLORS.get(points[0].method.name, OTHER), "label": curve}
                width = 1.5 * (1 + len(titles) - place)  # thinner on top, so that equal curves can all be seen
                _curve(axes, line, what, style, width, with_published=grid.profile == "paper")
            axes.set(xlabel=grid.axis)
            _ticks(axes, sorted({row.x for row in rows}), grid.log_axis)
        panels[0].set_ylabel(ACCURACY if what == "mean" else "entropy of the attention")
        if what != "mean":
            panels[0].set_ylim(0, 1.05)
        legend(figure, panels[0])
    return figure


def _curve(
    axes: Axes, line: pd.DataFrame, what: str, style: dict[str, str], width: float, with_published: bool
) -> None:
    axes.plot(line["x"], line[what], "o-", markersize=2.5 + width, linewidth=width, **style)
    if what == "mean":
        low, high = (line["mean"] - line["std"]).clip(lower=0), (line["mean"] + line["std"]).clip(upper=100)
        axes.fill_between(line["x"], low, high, color=style["color"], alpha=0.2, linewidth=0)
        if with_published and line["published_mean"].notna().any():
            axes.plot(line["x"], line["published_mean"], "D", color="black", fillstyle="none", label=PUBLISHED)


def _ticks(axes: Axes, ticks: list[float], log: bool) -> None:
    if log:
        axes.set_xscale("log", base=2)
        axes.minorticks_off()
    axes.set_xticks(ticks, [f"{tick:g}" if tick % 1 == 0 else "" for tick in ticks])


def protocol_bars(grid: Grid, store: Store) -> Figure:
    """Each method under the paper's protocol and under the released code's, one panel per column.

    Published values are shown only beside the same data.
    """
    grid = grid.filled
    numbers = summary(grid, store).set_index(["row", "column"])
    again = {row.released: row.title for row in grid.rows if row.released}
    rows = [row for row in grid.compared if row.title in again]
    with _panels(grid, height=1.6 + 0.5 * len(rows)) as (figure, panels):
        for axes, column in zip(panels, grid.columns, strict=True):
            here = numbers.xs(column.title, level="column")
            for position, row in enumerate(rows):
                _protocol_pair(axes, position, here.loc[[row.title, again[row.title]]], row)
                if grid.profile == "paper":
                    axes.plot(here.loc[row.title, "published_mean"], position, "D", color="black", fillstyle="none",
                              label=None if position else PUBLISHED)
            ticks = (0, 25, 50, 75, 100)
            axes.set(xlabel=ACCURACY, xlim=(0, 100), xticks=ticks, xticklabels=("0", "", "50", "", "100"))
            axes.grid(axis="y", visible=False)
        panels[0].set_yticks(range(len(rows)), [row.title for row in rows])
        panels[0].invert_yaxis()
        legend(figure, panels[0])
    return figure


def _protocol_pair(axes: Axes, position: int, pair: pd.DataFrame, row: Row) -> None:
    """Two bars around a position: the paper's protocol filled, the released code's hatched."""
    color = COLORS.get(row.method.name, OTHER)
    styles = {"color": color}, {"color": "white", "edgecolor": color, "hatch": "////", "linewidth": 1}
    labels = "paper's protocol", "released code's protocol"
    spreads = pair["std"] if pair["seeds"].max() > 1 else (None, None)
    for offset, mean, spread, label, style in zip((-0.21, 0.21), pair["mean"], spreads, labels, styles, strict=True):
        axes.barh(position + offset, mean, 0.38, xerr=spread, label=None if position else label,
                  error_kw={"elinewidth": 1, "capsize": 2, "ecolor": "0.2"}, **style)


@contextmanager
def _same_jitter():
    """seaborn draws its jitter from numpy's global state: the same figure should give the same file."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)


def rank_diagram(grid: Grid, store: Store) -> Figure:
    """Mean ranks over the columns and seeds (1: best); a bar joins methods that the seeds cannot tell apart.

    The form is Demšar's critical difference diagram (2006), whose test asks for sets that are independent. These share
    seeds and images, so that the bars are those of the exact test over seeds (`statistics.alike`).
    """
    grid = grid.filled
    data, rows, colors = clients(grid, store), [row.title for row in grid.compared], row_colors(grid)
    place = ranks(data, rows).mean(axis=1).sort_values(kind="stable")
    groups = alike(data, rows)
    half = (len(rows) + 1) // 2
    with canvas(figsize=(8, 1.4 + 0.26 * half + 0.13 * len(groups))) as (figure, axes):
        top = 0.6 + 0.5 * len(groups)
        for number, group in enumerate(groups):
            ends = [place[group[0]] - 0.06, place[group[-1]] + 0.06]
            axes.plot(ends, [0.5 * (number + 1)] * 2, color="0.25", linewidth=4, solid_capstyle="round")
        for number, (row, rank) in enumerate(place.items()):
            left = number < half
            level, end = (top + number, 0.6) if left else (top + len(rows) - 1 - number, len(rows) + 0.4)
            side = {"xytext": (-4, 0), "ha": "right"} if left else {"xytext": (4, 0), "ha": "left"}
            axes.plot([rank, rank, end], [0, level, level], color=colors[row], linewidth=1.6)
            axes.plot(rank, 0, "o", color=colors[row], markersize=6, clip_on=False, zorder=3)
            axes.annotate(f"{row}  {rank:.1f}" if left else f"{rank:.1f}  {row}", (end, level),
                          textcoords="offset points", va="center", **side)
        axes.set(xlim=(0.6, len(rows) + 0.4), ylim=(top + half - 0.4, 0), yticks=[], xticks=range(1, len(rows) + 1))
        axes.xaxis.tick_top()
        axes.spines["bottom"].set_visible(False)
        axes.set_title("mean rank (1: best); a bar joins what "
                       f"{data['seed'].nunique()} seed{'s' * (data['seed'].nunique() > 1)} cannot tell apart")
        axes.grid(visible=False)
    return figure


def traffic(grid: Grid, store: Store) -> Figure:
    """What one client receives and sends in a round in which it takes part, on average over the grid's runs."""
    means = cells(grid, store).groupby("row", sort=False)[["bytes_down", "bytes_up"]].mean() / 1024
    colors = row_colors(grid)
    with canvas(1, 2, figsize=(8, 1 + 0.42 * len(colors)), sharey=True, sharex=True) as (figure, panels):
        for axes, direction, title in zip(panels, means, ("received", "sent"), strict=True):
            bars = axes.barh(list(colors), means.loc[list(colors), direction], color=list(colors.values()), height=0.7)
            axes.bar_label(bars, fmt="{:.3g}", padding=3)
            axes.set(title=title, xlabel="KiB per client and round", xlim=(0, 1.15 * max(means.max().max(), 1)))
            axes.grid(axis="y", visible=False)
        panels[0].invert_yaxis()
    return figure


def row_colors(grid: Grid) -> dict[str, tuple[float, float, float]]:
    """Row title -> colour: the method's own for its default settings, paler for its variants."""
    colors = {}
    for row in grid.rows:
        alike = [other for other in grid.rows if type(other.method) is type(row.method)]
        variants = [other.title for other in alike if other.settings or other.method != type(row.method)()]
        own = np.array(to_rgb(COLORS.get(row.method.name, OTHER)))
        pale = 0.0 if row.title not in variants else 0.65 * (1 - variants.index(row.title) / len(variants))
        colors[row.title] = tuple(own + (1 - own) * pale)
    return colors


@contextmanager
def _panels(grid: Grid, height: float):
    """One panel per column of the grid, side by side on one scale."""
    count = len(grid.columns)
    with canvas(1, count, figsize=(max(5, 1 + 2.3 * count), height), sharey=True, squeeze=False) as (figure, axes):
        for panel, heading in zip(axes[0], grid.headings(), strict=True):
            panel.set_title(heading)
        yield figure, axes[0]


