"""From the records of a grid to numbers, as tidy frames."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from pfedmoap.errors import UserError
from pfedmoap.experiment import Experiment
from pfedmoap.paper import Grid, published
from pfedmoap.store import Record, Store


def cells(grid: Grid, store: Store) -> pd.DataFrame:
    """One line per run, in percent after the last round, and what a client that took part sent per round.

    Returns:
        Columns row, column, seed, accuracy, accuracy_last5, worst_client, bytes_up, bytes_down, seconds.
    """
    lines = []
    for row, column, experiment, record in records(grid, store):
        traffic = [_traffic(entry) for entry in record["rounds"]]
        lines.append({
            "row": row, "column": column, "seed": experiment.seed, "accuracy": 100 * record["accuracy"],
            "accuracy_last5": 100 * record["accuracy_last5"],
            "worst_client": 100 * min(record["rounds"][-1]["accuracies"]),
            "bytes_up": np.mean([up for up, _ in traffic]), "bytes_down": np.mean([down for _, down in traffic]),
            "seconds": record["seconds"]["total"]})
    return pd.DataFrame(lines)


def clients(grid: Grid, store: Store) -> pd.DataFrame:
    """One line per run and client after the last round: row, column, seed, client, accuracy in percent."""
    return pd.DataFrame([
        {"row": row, "column": column, "seed": experiment.seed, "client": client, "accuracy": 100 * accuracy}
        for row, column, experiment, record in records(grid, store)
        for client, accuracy in enumerate(record["rounds"][-1]["accuracies"])])


def rounds(grid: Grid, store: Store) -> pd.DataFrame:
    """One line per run and round: row, column, seed, round, accuracy in percent."""
    return pd.DataFrame([
        {"row": row, "column": column, "seed": experiment.seed, "round": entry["number"],
         "accuracy": 100 * entry["accuracy"]}
        for row, column, experiment, record in records(grid, store) for entry in record["rounds"]])


def traffic(grid: Grid, store: Store) -> pd.DataFrame:
    """What the methods cost on the network: one line per row of the table, means over its runs.

    Returns:
        Columns bytes_up and bytes_down (of a client in a round that it takes part in), and total (of all clients in
        the whole run, both ways).
    """
    lines = []
    for row, _, _, record in records(grid, store):
        total = sum(sum(entry[way].values()) for entry in record["rounds"] for way in ("bytes_up", "bytes_down"))
        lines.append({"row": row, "total": total})
    table = cells(grid, store).groupby("row", sort=False)[["bytes_up", "bytes_down"]].mean()
    return table.assign(total=pd.DataFrame(lines).groupby("row", sort=False)["total"].mean())


def summary(grid: Grid, store: Store) -> pd.DataFrame:
    """One line per cell of the table, in the grid's order.

    Returns:
        Columns row, column, mean, std (population, over seeds), seeds, mean_last5, worst_client, seconds,
        published_mean, published_std (missing where the paper has no such cell), and difference (only in the
        `paper` profile: elsewhere the published cell is about another data set and another CLIP).
    """
    groups = cells(grid, store).groupby(["row", "column"], sort=False)
    table = groups.agg(
        mean=("accuracy", "mean"), std=("accuracy", lambda values: values.std(ddof=0)), seeds=("seed", "count"),
        mean_last5=("accuracy_last5", "mean"), worst_client=("worst_client", "mean"), seconds=("seconds", "mean"))
    known = _published(grid)
    table["published_mean"] = [known.get(cell, (np.nan, np.nan))[0] for cell in table.index]
    table["published_std"] = [known.get(cell, (np.nan, np.nan))[1] for cell in table.index]
    table["difference"] = table["mean"] - table["published_mean"] if grid.profile == "paper" else np.nan
    return table.reset_index()


def records(grid: Grid, store: Store) -> Iterator[tuple[str, str, Experiment, Record]]:
    """Row title, column title, experiment and record of every run of the grid, in its order.

    Raises:
        UserError: runs of the grid are not in the store.
    """
    missing = [experiment for experiment in grid if store.get(experiment) is None]
    if missing:
        raise UserError(f"{len(missing)} of {len(list(grid))} runs of {grid.name} ({grid.profile}) are not in "
                        f"{store.folder}: run them first, with runs.run_all or `pfedmoap reproduce`.")
    for (row, column), experiments in grid.cells.items():
        for experiment in experiments:
            yield row, column, experiment, store.get(experiment)


def _traffic(entry: Record) -> tuple[float, float]:
    """Mean bytes (up, down) in a round over the clients that took part."""
    taking_part = max(len(entry["selected"]), 1)
    return sum(entry["bytes_up"].values()) / taking_part, sum(entry["bytes_down"].values()) / taking_part


def _published(grid: Grid) -> dict[tuple[str, str], tuple[float, float]]:
    """(row title, column title) -> the paper's mean and std."""
    if not any(row.published for row in grid.rows):
        return {}
    cells = {(line.method, line.dataset): (line.mean, line.std) for line in published(grid.name).itertuples()}
    return {(row.title, column.title): cells[row.published, column.title]
            for row in grid.rows for column in grid.columns if (row.published, column.title) in cells}
