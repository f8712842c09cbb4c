"""From the records of a question's grid to numbers, as tidy frames; everything in percent."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from pfedmoap.beyond.answers import in_percent
from pfedmoap.experiments import Grid, Record, Store
from pfedmoap.reports import records

SEEN = "seen"  # the paper's accuracy of the clients that trained


def measures(grid: Grid, store: Store) -> pd.DataFrame:
    """One line per row, column, seed and measure: the mean over clients.

    Returns:
        Columns row, column, seed, measure, accuracy. Measures are those of the question's module in `pfedmoap.beyond`;
        "seen", the paper's accuracy of those who trained; and for base_new the harmonic means "H" of local, base and
        new, and "H_among_all" of base and new among all classes, each of a seed's means.
    """
    lines = []
    for cell, record in _records(grid, store):
        found = {SEEN: 100 * record["accuracy"]} | in_percent({"accuracies": record["beyond"]["accuracies"]})
        lines += [cell | {"measure": measure, "accuracy": value} for measure, value in found.items()]
    return pd.DataFrame(lines)


def summary(grid: Grid, store: Store) -> pd.DataFrame:
    """One line per row, column and measure: mean and std (population, over seeds) of `measures`, and seeds."""
    groups = measures(grid, store).groupby(["row", "column", "measure"], sort=False)["accuracy"]
    return groups.agg(mean="mean", std=lambda values: values.std(ddof=0), seeds="size").reset_index()


def curves(grid: Grid, store: Store) -> pd.DataFrame:
    """Newcomers while they learn: one line per row, column, seed, curve and point.

    Returns:
        Columns row, column, seed, curve ("epochs", "experts" or "images"), at (local epochs, or training images of each
        class; 0 is the newcomer as it comes, of "experts" with an untrained gate), accuracy.
    """
    lines = []
    for cell, record in _records(grid, store):
        cold = 100 * np.mean(record["beyond"]["accuracies"]["cold"])
        for curve, points in record["beyond"]["curves"].items():
            start = {} if curve == "experts" else {0: cold}
            found = start | {int(at): 100 * np.mean(values) for at, values in points.items()}
            lines += [cell | {"curve": curve, "at": at, "accuracy": value} for at, value in found.items()]
    return pd.DataFrame(lines)


def gate_worth(grid: Grid, store: Store) -> pd.DataFrame:
    """What the gate adds to the client's own prompt alone: one line per row, column, seed and measure.

    Returns:
        Columns row, column, seed, measure, with_gate, prompt_alone, difference. Rows without a gate have none.
    """
    lines = []
    for cell, record in _records(grid, store):
        with_gate, alone = (in_percent({"accuracies": record["beyond"].get(name, {})})
                            for name in ("accuracies", "without_gate"))
        lines += [cell | {"measure": measure, "with_gate": with_gate[measure], "prompt_alone": value,
                          "difference": with_gate[measure] - value} for measure, value in alone.items()]
    return pd.DataFrame(lines)


def _records(grid: Grid, store: Store) -> Iterator[tuple[dict, Record]]:
    for row, column, experiment, record in records(grid, store):
        yield {"row": row, "column": column.title, "seed": experiment.seed}, record

