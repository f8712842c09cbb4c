"""Draws results/benchmarks: speed-ups at the paper's shapes, cost against size with slopes, and against clients.

    python tests/benchmarks/plot.py [--results results/benchmarks] [--figures figures/benchmarks]
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import ScalarFormatter
from measuring import ROOT

from pfedmoap.reports.figures import canvas, write_figure

TABLES = ("training_step", "scaling", "scale")
PARTS = {"download s": "lend experts to those who train", "train s": "train up to 100", "KNN s": "K nearest of all N",
         "evaluate s": "test all N"}  # fmt: skip
COLOURS = {"fp32": "#0173b2", "bf16": "#029e73"}


def draw_speedups(axes: Axes, steps: pd.DataFrame) -> None:
    """Bars: how many times less processor time than the plain step."""
    shapes = list(dict.fromkeys(zip(steps["classes"], steps["clients"], strict=True)))
    for offset, (precision, own) in zip((-0.2, 0.2), steps.groupby("precision", sort=False), strict=True):
        places = [shapes.index(shape) + offset for shape in zip(own["classes"], own["clients"], strict=True)]
        bars = axes.bar(places, own["cpu_speedup"], width=0.38, color=COLOURS[precision], label=precision)
        axes.bar_label(bars, fmt="%.0f", padding=1, fontsize=8)
    labels = [f"{classes}" + (f"\n{clients} clients" if clients > 1 else "") for classes, clients in shapes]
    axes.set_xticks(range(len(shapes)), labels)
    axes.set(xlabel="classes", ylabel="times the plain step's speed", title="One training step, RN50's text tower")
    axes.grid(visible=False, axis="x")
    axes.legend(frameon=False, title="frozen tower in", loc="upper left", ncols=2)
    axes.set_ylim(0, 1.3 * steps["cpu_speedup"].max())


def draw_slopes(axes: Axes, scaling: pd.DataFrame) -> None:
    """Lines: cost over quantity, both relative to the first point."""
    for quantity, own in scaling.groupby("quantity", sort=False):
        label = f"{quantity}: slope {own['slope'].iloc[0]:.2f}"
        axes.plot(own["value"] / own["value"].iloc[0], own["cpu_seconds"] / own["cpu_seconds"].iloc[0], "o-",
                  label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter())
    axes.set(xlabel="times as many", ylabel="times the processor time", title="Cost against size")
    axes.legend(frameon=False)


def draw_clients(axes: Axes, scale: pd.DataFrame) -> None:
    """Lines: seconds of a round's parts over the clients of the pool."""
    large = scale["clients"] >= scale["clients"].max() / 100  # below, it is the fixed cost that is seen
    for column, part in PARTS.items():
        own = scale.loc[large & (scale[column] > 0)]
        slope = np.polyfit(np.log(own["clients"]), np.log(own[column]), 1)[0] if len(own) > 1 else float("nan")
        axes.plot(scale["clients"], scale[column], "o-", label=f"{part}: slope {slope:.2f}")
    axes.set(xscale="log", yscale="log", xlabel="clients N in the pool", ylabel="seconds, one thread",
             title=f"A round; {scale['peak MiB'].iloc[-1] / 1024:.1f} GiB at {scale['clients'].iloc[-1]:,}")
    axes.legend(frameon=False)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "benchmarks", help="folder of the CSV files")
    parser.add_argument("--figures", type=Path, default=ROOT / "figures" / "benchmarks", help="folder of the figure")
    arguments = parser.parse_args(argv)
    with canvas(1, 3, figsize=(16, 4.2)) as (figure, axes):
        for draw, own, name in zip((draw_speedups, draw_slopes, draw_clients), axes, TABLES, strict=True):
            draw(own, pd.read_csv(arguments.results / f"{name}.csv"))
    for path in write_figure(figure, arguments.figures, "speed"):
        print(path)


if __name__ == "__main__":
    main()
