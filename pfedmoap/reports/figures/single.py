"""Figures of one run: its data, its curves, its clients."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pfedmoap.data import ImageSet, Partition
from pfedmoap.experiments import Record
from pfedmoap.methods import METHODS
from pfedmoap.reports.figures.canvas import ACCURACY, COLORS, OTHER, canvas, legend


def learning_curves(record: Record) -> Figure:
    """Training loss and accuracy over the rounds: thin lines for the clients, a thick one for their mean."""
    color = _color(record)
    numbers = [entry["number"] for entry in record["rounds"]]
    losses = pd.DataFrame([entry["losses"] for entry in record["rounds"]], index=numbers)  # (rounds, clients)
    accuracies = 100 * pd.DataFrame([entry["accuracies"] for entry in record["rounds"]], index=numbers)
    with canvas(1, 2, figsize=(9, 3.2)) as (figure, panels):
        for axes, data, label in zip(panels, (losses, accuracies), ("training loss", ACCURACY), strict=True):
            lines = axes.plot(data.interpolate(), color=color, alpha=0.35, linewidth=1)
            lines[0].set_label("one client")
            axes.plot(data.mean(axis=1), "o-", color=color, linewidth=2.5, label="mean over clients")
            axes.set(xlabel="round", ylabel=label)
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        panels[0].set_ylim(bottom=0)
        legend(figure, panels[0])
    return figure


def client_bars(records: Sequence[Record]) -> Figure:
    """Every client's accuracy after the last round under several methods, on the same partition."""
    last = {_title(record): 100 * np.array(record["rounds"][-1]["accuracies"]) for record in records}
    count = len(next(iter(last.values())))
    width = 0.84 / len(last)
    with canvas(figsize=(max(6, 1 + 0.8 * count), 3.6)) as (figure, axes):
        for position, (record, (title, values)) in enumerate(zip(records, last.items(), strict=True)):
            at = np.arange(count) + (position - (len(last) - 1) / 2) * width
            axes.bar(at, values, width * 0.94, color=_color(record),
                     label=f"{title} (mean {values.mean():.1f} %)")
        axes.set(xlabel="client", ylabel=ACCURACY, ylim=(0, 100), xlim=(-0.5, count - 0.5))
        axes.set_xticks(range(count))
        axes.grid(axis="x", visible=False)
        legend(figure, axes)
    return figure


def run_traffic(record: Record) -> Figure:
    """What a client received and sent in every round: the mean over those that took part."""
    data = 1 / 1024 * pd.DataFrame(
        [{"received": np.mean(list(entry["bytes_down"].values()) or [0]),
          "sent": np.mean(list(entry["bytes_up"].values()) or [0])} for entry in record["rounds"]],
        index=[entry["number"] for entry in record["rounds"]])
    color = _color(record)
    with canvas(figsize=(max(5, 1.5 + 0.6 * len(data)), 3)) as (figure, axes):
        for offset, direction, alpha in ((-0.2, "received", 1.0), (0.2, "sent", 0.45)):
            bars = axes.bar(data.index + offset, data[direction], 0.38, color=color, alpha=alpha, label=direction)
            axes.bar_label(bars, fmt="{:.3g}", padding=2, fontsize=8)
        axes.set(xlabel="round", ylabel="KiB per client")
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        axes.grid(axis="x", visible=False)
        axes.margins(y=0.12)
        legend(figure, axes)
    return figure


def partition_heatmap(shares: Partition, imageset: ImageSet) -> Figure:
    """Training images per client and class; classes are ordered by the client that has most of them."""
    classes = len(imageset.class_names)
    counts = np.stack([np.bincount(own, minlength=classes) for own in shares.train_labels])  # (clients, classes)
    order = np.argsort(counts.argmax(0), kind="stable")
    named = classes <= 60
    names = [imageset.class_names[label] for label in order] if named else False
    size = (min(3 + 0.24 * classes, 14), 1.4 + 0.26 * len(counts) + (0.9 if named else 0))
    with canvas(figsize=size) as (figure, axes):
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
    with canvas(rows, columns, figsize=(1.35 * columns, 1.6 * rows), squeeze=False) as (figure, panels):
        for axes in panels.flat:
            axes.axis("off")
        for axes, label in zip(panels.flat, chosen, strict=False):
            index = np.flatnonzero(imageset.train.labels == label)[0]
            axes.imshow(imageset.train.images[index])
            axes.set_title(imageset.class_names[label].replace(" ", "\n", 1), fontsize=8)
    return figure


def _title(record: Record) -> str:
    return METHODS[record["experiment"]["method"]["name"]].title


def _color(record: Record) -> tuple[float, float, float]:
    """The colour of a run's method."""
    return to_rgb(COLORS.get(record["experiment"]["method"]["name"], OTHER))


