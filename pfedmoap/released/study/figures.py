"""Figures of `03_paper_and_code`: what separates paper and released code."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure

from pfedmoap.data import ImageSet, Partition
from pfedmoap.experiments import Grid, Place, Store
from pfedmoap.released.optimizer import shared_rate
from pfedmoap.released.protocol import SWITCHES
from pfedmoap.released.study import pattern, tables
from pfedmoap.released.study.differences import name, square, title
from pfedmoap.reports import title_of
from pfedmoap.reports.figures import ACCURACY, PUBLISHED, canvas, row_colors

DIVERGING = "PuOr"  # centred on white, and told apart by all kinds of colour vision
LINEAR = 1.0  # points; beyond them colours follow the logarithm, so that small differences can be seen beside large
WRONG = "#d55e00"


def difference_heatmap(boards: Mapping[str, Grid], store: Store) -> Figure:
    """Switch by method, a panel per data set: accuracy less that under the paper's protocol, in points.

    "=" marks what a switch cannot touch. Boards without the released protocol, which run a few switches, are left out.
    """
    panels = {title(grid): square(grid, store, "difference").iloc[1:] for grid in boards.values()}
    panels = {heading: frame for heading, frame in panels.items() if "released" in frame.index}
    found = {protocol for frame in panels.values() for protocol in frame.index}
    order = [switch for switch in SWITCHES if switch in found] + sorted(found - {*SWITCHES}, key="released".__eq__)
    reach = max([10.0, *(frame.abs().max().max() for frame in panels.values())])
    colors = SymLogNorm(LINEAR, vmin=-reach, vmax=reach)
    ticks = [sign * tick for tick in (1, 10, 100) if tick <= reach for sign in (-1, 1)] + [0]
    size = 2.2 + 3.1 * len(panels), 1.9 + 0.36 * len(order)
    with canvas(1, len(panels), figsize=size, sharey=True, squeeze=False) as (figure, axes):
        for panel, (heading, frame) in zip(axes[0], panels.items(), strict=True):
            frame = frame.reindex(order)
            text = frame.map(lambda value: tables.SAME if np.isnan(value) else f"{round(value, 1) + 0:+.1f}")
            sns.heatmap(frame.fillna(0), annot=text, fmt="", cmap=DIVERGING, norm=colors, linewidths=0.6, ax=panel,
                        cbar=panel is axes[0, -1], annot_kws={"fontsize": 8},
                        cbar_kws={"label": "points", "ticks": ticks, "format": "{x:g}"})
            panel.set(title=heading, xlabel="", ylabel="")
            panel.set_yticks(np.arange(len(order)) + 0.5, [tables.shown(protocol) for protocol in order], rotation=0)
            panel.set_xticks(panel.get_xticks(), frame.columns, rotation=40, ha="right", rotation_mode="anchor")
    return figure


def label_bars(boards: Mapping[str, Grid], store: Store, place: Place = Place()) -> Figure:
    """Sets with domains, one below the other: the methods under each protocol that concerns the labels.

    Bars are means over seeds with their standard deviation; dashes mark what answering with a client's most frequent
    label would score, the dotted line guessing. The published averages have a panel of their own: they are about other
    data, except in the profile `paper`.
    """
    grids = pattern.with_domains(boards)
    size, ratios = (11, 0.6 + 2.9 * max(len(grids), 1)), {"width_ratios": [5, 1]}
    with canvas(max(len(grids), 1), 2, figsize=size, sharey=True, squeeze=False, gridspec_kw=ratios) as (figure, axes):
        if not grids:
            axes[0, 0].set_title("no set with domains was run")
        for (here, there), grid in zip(axes, grids, strict=False):
            rows = tuple(replace(row, settings={}) for row in grid.rows if not row.released)
            colors = {name(row): row_colors(replace(grid, rows=rows))[row.title] for row in rows}
            by_protocol = pattern.accuracy_lines(grid, store, place).groupby("protocol", sort=False)
            means, stds = by_protocol.mean(), by_protocol.std(ddof=0)
            _grouped(here, means[list(colors)].rename(tables.shown), stds, colors, by_protocol.size().iloc[0] > 1)
            for group, score in enumerate(means[pattern.PRIOR]):
                here.plot([group - 0.44, group + 0.44], [score, score], "--", color="black", linewidth=1,
                          label=None if group else pattern.PRIOR)
            here.axhline(pattern.chance(grid, store), color="0.4", linewidth=1, linestyle=":", label="guessing")
            here.set(title=title(grid), ylabel=ACCURACY)
            known = pd.DataFrame(tables.published_averages(grid, store), index=["mean", "std"])
            known = known.reindex(columns=[method for method in colors if method in known])
            _grouped(there, known.iloc[:1], known.iloc[1:], colors, True)
            there.set(title=f"{PUBLISHED}: {title_of(grid)}", xticklabels=[""])
        handles = {label: handle for panel in axes[:, 0] for handle, label in zip(*panel.get_legend_handles_labels(),
                                                                                 strict=True)}
        if handles:
            figure.legend(handles.values(), handles, loc="outside lower center", ncols=5, frameon=False)
    return figure


def _grouped(axes: Axes, means: pd.DataFrame, stds: pd.DataFrame, colors: Mapping, spread: bool) -> None:
    """Groups of bars: rows are groups, columns methods."""
    width = 0.88 / max(len(means.columns), 1)
    for position, method in enumerate(means):
        at = np.arange(len(means)) + (position - (len(means.columns) - 1) / 2) * width
        axes.bar(at, means[method], width * 0.94, yerr=stds[method] if spread else None, color=colors[method],
                 label=method, error_kw={"elinewidth": 1, "capsize": 2, "ecolor": "0.2"})
    axes.set_xticks(range(len(means)), [group.replace(" ", "\n", 1) for group in means.index])
    axes.set_ylim(0, 100)
    axes.grid(axis="x", visible=False)


def label_samples(
    imageset: ImageSet, matched: Partition, mispaired: Partition, client: int = 0, count: int = 8
) -> Figure:
    """A client's training images under the labels that they get: its own ones, and by the switch `label_pairing`.

    A wrong label is coloured, with the name of what the image shows in grey under it.
    """
    rows = (matched, "label_pairing:\nmatched (paper)"), (mispaired, "label_pairing:\nmispaired (released)")
    with canvas(2, count, figsize=(1.35 * count, 4), squeeze=False) as (figure, axes):
        for panels, (shares, heading) in zip(axes, rows, strict=True):
            pairs = shares.pairs(client)
            chosen = np.linspace(0, len(pairs) - 1, count).astype(int)
            panels[0].set_ylabel(heading)
            for panel, k in zip(panels, chosen, strict=True):
                image, label = pairs[k]
                right = imageset.train.labels[image]
                panel.imshow(imageset.train.images[image])
                panel.set(xticks=[], yticks=[])
                panel.set_title(imageset.class_names[label], fontsize=9, color="black" if label == right else WRONG)
                if label != right:
                    panel.set_xlabel(f"shows: {imageset.class_names[right]}", fontsize=8, color="0.45")
    return figure


def shared_schedule(lr: float = 0.002, clients: int = 4, rounds: int = 2, epochs: int = 5) -> Figure:
    """The prompt's learning rate with the switch `optimizer`: local epochs of the clients, one after the other."""
    colors = sns.color_palette("colorblind", clients)
    with canvas(figsize=(9, 2.9)) as (figure, axes):
        for turn in range(clients * rounds):
            at = np.arange(turn * epochs, (turn + 1) * epochs)
            rates = [shared_rate(lr, int(epoch), epochs) for epoch in at]
            axes.bar(at, rates, 0.86, color=colors[turn % clients],
                     label=f"client in turn {turn + 1}" if turn < clients else None)
            if turn and turn % clients == 0:
                axes.axvline(at[0] - 0.5, color="0.3", linewidth=1)
        axes.axhline(lr, color="black", linewidth=1, linestyle="--", label="paper: constant")
        axes.set(xlabel=f"local epoch of all clients, {epochs} each; the line: the next round",
                 ylabel="learning rate", xlim=(-0.7, clients * rounds * epochs - 0.3))
        axes.grid(axis="x", visible=False)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=clients + 1, frameon=False)
    return figure
