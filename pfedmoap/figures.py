"""Figures of a grid and of one run. They are returned, not shown; `write_figure` puts one on disk."""

from collections.abc import Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pfedmoap import results
from pfedmoap.data.imageset import ImageSet
from pfedmoap.data.partition import Partition
from pfedmoap.methods import METHODS, ZeroShot
from pfedmoap.paper import Grid
from pfedmoap.report import headings
from pfedmoap.store import Record, Store, write_atomically

# One method has one colour in every figure: seaborn's colour-blind-safe palette, greys for what is not trained.
COLORS = {
    "zero_shot": "#949494", "zs_own_classes": "#4d4d4d", "zs_prior": "#c8c8c8",
    "coop": "#de8f05", "promptfl": "#0173b2", "promptfl_ft": "#56b4e9", "fedper": "#cc78bc", "fedprox": "#ca9161",
    "fedamp": "#fbafe4", "pfedprompt": "#ece133", "fedotp": "#d55e00", "fedpgp": "#332288", "pfedmoap": "#029e73",
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


# --- of a grid


def accuracy_bars(grid: Grid, store: Store) -> Figure:
    """The table as grouped bars: mean and standard deviation over seeds; published values only beside the same data."""
    numbers = results.summary(grid, store).set_index(["row", "column"])
    colors, columns = row_colors(grid), [column.title for column in grid.columns]
    width = 0.84 / len(grid.compared)
    with _canvas(figsize=(max(6, 1.2 + 1.9 * len(columns)), 3.9)) as (figure, axes):
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
        axes.set_xticks(range(len(columns)), headings(grid))
        axes.grid(axis="x", visible=False)
        _legend(figure, axes)
    return figure


def accuracy_by_round(grid: Grid, store: Store) -> Figure:
    """Mean over seeds after every round, with a band of one standard deviation; untrained rows are dashed lines."""
    data = results.rounds(grid, store)
    colors = row_colors(grid)
    with _panels(grid, height=3.1) as (figure, panels):
        for axes, column in zip(panels, grid.columns, strict=True):
            for row in grid.compared:
                here = data[(data["row"] == row.title) & (data["column"] == column.title)]
                over_seeds = here.groupby("round")["accuracy"]
                mean, std = over_seeds.mean(), over_seeds.std(ddof=0)
                color, style = colors[row.title], "--" if isinstance(row.method, ZeroShot) else "o-"
                axes.plot(mean.index, mean, style, color=color, label=row.title, markersize=3.5)
                axes.fill_between(mean.index, mean - std, mean + std, color=color, alpha=0.2, linewidth=0)
            axes.set(xlabel="round")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        panels[0].set_ylabel(ACCURACY)
        _legend(figure, panels[0])
    return figure


def client_spread(grid: Grid, store: Store) -> Figure:
    """Every client of every seed after the last round; triangles mark each seed's worst client, bars the mean."""
    data = results.clients(grid, store)
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
        _legend(figure, panels[0])
    return figure


@contextmanager
def _same_jitter():
    """seaborn draws its jitter from numpy's global state: the same figure should give the same file."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)


def traffic(grid: Grid, store: Store) -> Figure:
    """What one client receives and sends in a round in which it takes part, on average over the grid's runs."""
    means = results.cells(grid, store).groupby("row", sort=False)[["bytes_down", "bytes_up"]].mean() / 1024
    colors = row_colors(grid)
    with _canvas(1, 2, figsize=(8, 1 + 0.42 * len(colors)), sharey=True, sharex=True) as (figure, panels):
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
        variants = [other.title for other in alike if other.method != type(row.method)()]
        own = np.array(to_rgb(COLORS.get(row.method.name, OTHER)))
        pale = 0.0 if row.title not in variants else 0.6 * (1 - variants.index(row.title) / len(variants))
        colors[row.title] = tuple(own + (1 - own) * pale)
    return colors


def _color(record: Record) -> tuple[float, float, float]:
    """The colour of a run's method."""
    return to_rgb(COLORS.get(record["experiment"]["method"]["name"], OTHER))


# --- of one run


def learning_curves(record: Record) -> Figure:
    """Training loss and accuracy over the rounds: thin lines for the clients, a thick one for their mean."""
    color = _color(record)
    numbers = [entry["number"] for entry in record["rounds"]]
    losses = pd.DataFrame([entry["losses"] for entry in record["rounds"]], index=numbers)  # (rounds, clients)
    accuracies = 100 * pd.DataFrame([entry["accuracies"] for entry in record["rounds"]], index=numbers)
    with _canvas(1, 2, figsize=(9, 3.2)) as (figure, panels):
        for axes, data, label in zip(panels, (losses, accuracies), ("training loss", ACCURACY), strict=True):
            lines = axes.plot(data.interpolate(), color=color, alpha=0.35, linewidth=1)
            lines[0].set_label("one client")
            axes.plot(data.mean(axis=1), "o-", color=color, linewidth=2.5, label="mean over clients")
            axes.set(xlabel="round", ylabel=label)
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        panels[0].set_ylim(bottom=0)
        _legend(figure, panels[0])
    return figure


def client_bars(records: Sequence[Record]) -> Figure:
    """Every client's accuracy after the last round under several methods, on the same partition."""
    last = {_title(record): 100 * np.array(record["rounds"][-1]["accuracies"]) for record in records}
    count = len(next(iter(last.values())))
    width = 0.84 / len(last)
    with _canvas(figsize=(max(6, 1 + 0.8 * count), 3.6)) as (figure, axes):
        for position, (record, (title, values)) in enumerate(zip(records, last.items(), strict=True)):
            at = np.arange(count) + (position - (len(last) - 1) / 2) * width
            axes.bar(at, values, width * 0.94, color=_color(record),
                     label=f"{title} (mean {values.mean():.1f} %)")
        axes.set(xlabel="client", ylabel=ACCURACY, ylim=(0, 100), xlim=(-0.5, count - 0.5))
        axes.set_xticks(range(count))
        axes.grid(axis="x", visible=False)
        _legend(figure, axes)
    return figure


def run_traffic(record: Record) -> Figure:
    """What a client received and sent in every round: the mean over those that took part."""
    data = 1 / 1024 * pd.DataFrame(
        [{"received": np.mean(list(entry["bytes_down"].values()) or [0]),
          "sent": np.mean(list(entry["bytes_up"].values()) or [0])} for entry in record["rounds"]],
        index=[entry["number"] for entry in record["rounds"]])
    color = _color(record)
    with _canvas(figsize=(max(5, 1.5 + 0.6 * len(data)), 3)) as (figure, axes):
        for offset, direction, alpha in ((-0.2, "received", 1.0), (0.2, "sent", 0.45)):
            bars = axes.bar(data.index + offset, data[direction], 0.38, color=color, alpha=alpha, label=direction)
            axes.bar_label(bars, fmt="{:.3g}", padding=2, fontsize=8)
        axes.set(xlabel="round", ylabel="KiB per client")
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        axes.grid(axis="x", visible=False)
        axes.margins(y=0.12)
        _legend(figure, axes)
    return figure


def partition_heatmap(shares: Partition, imageset: ImageSet) -> Figure:
    """Training images per client and class; classes are ordered by the client that has most of them."""
    labels, classes = imageset.train.labels, len(imageset.class_names)
    counts = np.stack([np.bincount(labels[own], minlength=classes) for own in shares.train])  # (clients, classes)
    order = np.argsort(counts.argmax(0), kind="stable")
    named = classes <= 60
    names = [imageset.class_names[label] for label in order] if named else False
    size = (min(3 + 0.24 * classes, 14), 1.4 + 0.26 * len(counts) + (0.9 if named else 0))
    with _canvas(figsize=size) as (figure, axes):
        sns.heatmap(counts[:, order], cmap="Blues", vmin=0, xticklabels=names, linewidths=0.4 if named else 0, ax=axes,
                    cbar_kws={"label": "training images", "ticks": MaxNLocator(4, integer=True), "pad": 0.02})
        axes.set(xlabel="class" if named else f"{classes} classes", ylabel="client")
        axes.tick_params(axis="y", rotation=0)
    return figure


def image_samples(imageset: ImageSet, count: int = 16) -> Figure:
    """One training image of each of `count` classes, with its name."""
    classes = len(imageset.class_names)
    chosen = np.unique(np.linspace(0, classes - 1, min(count, classes)).astype(int))
    columns = min(8, len(chosen))
    rows = -(-len(chosen) // columns)
    with _canvas(rows, columns, figsize=(1.35 * columns, 1.6 * rows), squeeze=False) as (figure, panels):
        for axes in panels.flat:
            axes.axis("off")
        for axes, label in zip(panels.flat, chosen, strict=False):
            index = np.flatnonzero(imageset.train.labels == label)[0]
            axes.imshow(imageset.train.images[index])
            axes.set_title(imageset.class_names[label].replace(" ", "\n", 1), fontsize=8)
    return figure


def _title(record: Record) -> str:
    return METHODS[record["experiment"]["method"]["name"]].title


@contextmanager
def _canvas(*shape: int, **settings):
    """A figure and its axes in the house style; closed for pyplot, so that a notebook shows it once."""
    style = {"grid.color": "0.9", "patch.linewidth": 0, "patch.force_edgecolor": False}
    with sns.axes_style("whitegrid", style), sns.plotting_context("notebook", font_scale=0.85):
        figure, axes = plt.subplots(*shape, layout="constrained", **settings)
        plt.close(figure)
        yield figure, axes
        sns.despine(figure, left=True)


@contextmanager
def _panels(grid: Grid, height: float):
    """One panel per column of the grid, side by side on one scale."""
    count = len(grid.columns)
    with _canvas(1, count, figsize=(max(5, 1 + 2.3 * count), height), sharey=True, squeeze=False) as (figure, axes):
        for panel, heading in zip(axes[0], headings(grid), strict=True):
            panel.set_title(heading)
        yield figure, axes[0]


def _legend(figure: Figure, axes) -> None:
    """One legend for the whole figure, below the panels and never over data."""
    pairs = zip(*axes.get_legend_handles_labels(), strict=True)
    handles, labels = zip(*sorted(pairs, key=lambda pair: pair[1] == PUBLISHED), strict=True)  # that one last
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), frameon=False)
