"""From the records of a grid to numbers, as tidy frames."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from pfedmoap.client import count_steps
from pfedmoap.errors import UserError
from pfedmoap.experiments import Column, Experiment, Grid, Record, Store, published_cells

INITIAL_STD = 0.02  # of a prompt's entries before round 1 (SPEC 1)
COSTS = ("steps", "seconds", "bytes")  # of `compute`


def cells(grid: Grid, store: Store) -> pd.DataFrame:
    """One line per cell and seed, in percent after the last round, and what a client that took part sent per round.

    Returns:
        Columns row, column, seed, accuracy, accuracy_last5, worst_client, bytes_up, bytes_down, seconds,
        attention_entropy (1: all experts weigh the same; missing where there is no attention) and sigma (mean noise on
        an upload; missing without privacy).
    """
    lines = []
    for row, column, experiment, record in records(grid, store):
        traffic = [_traffic(entry) for entry in record["rounds"]]
        means = [100 * np.mean(_of(column, entry)) for entry in record["rounds"]]
        lines.append({
            "row": row, "column": column.title, "seed": experiment.seed, "accuracy": means[-1],
            "accuracy_last5": np.mean(means[-5:]), "worst_client": 100 * min(_of(column, record["rounds"][-1])),
            "bytes_up": np.mean([up for up, _ in traffic]), "bytes_down": np.mean([down for _, down in traffic]),
            "seconds": record["seconds"]["total"],
            "attention_entropy": record["rounds"][-1].get("diagnostics", {}).get("attention_entropy", np.nan),
            "sigma": _mean_sigma(record)})
    return pd.DataFrame(lines)


def clients(grid: Grid, store: Store) -> pd.DataFrame:
    """One line per cell, seed and client: every number that the table's means are made of.

    Returns:
        Columns row, column, seed, client (its id in the run), and its accuracy in percent: accuracy (after the last
        round: the paper's, and the tables'), accuracy_last5 (mean over the last five rounds) and accuracy_best (after
        the round whose mean over the column's clients is highest: optimistic, as it is chosen on the test images).
    """
    lines = []
    for row, column, experiment, record in records(grid, store):
        by_round = np.array([_of(column, entry) for entry in record["rounds"]], dtype=float)  # (rounds, clients)
        first = column.clients(len(record["rounds"][-1]["accuracies"])).start or 0
        best = np.nanmean(by_round, axis=1).argmax()  # NaN: a client that was not reached
        lines += [
            {"row": row, "column": column.title, "seed": experiment.seed, "client": first + client,
             "accuracy": 100 * own[-1], "accuracy_last5": 100 * own[-5:].mean(), "accuracy_best": 100 * own[best]}
            for client, own in enumerate(by_round.T)]
    return pd.DataFrame(lines)


def rounds(grid: Grid, store: Store) -> pd.DataFrame:
    """One line per cell, seed and round: row, column, seed, round, accuracy in percent."""
    return pd.DataFrame([
        {"row": row, "column": column.title, "seed": experiment.seed, "round": entry["number"],
         "accuracy": 100 * np.mean(_of(column, entry))}
        for row, column, experiment, record in records(grid, store) for entry in record["rounds"]])


def compute(grid: Grid, store: Store) -> pd.DataFrame:
    """One line per cell, seed and round: what a run had cost by the end of that round, and how accurate it was then.

    Returns:
        Columns row, column, seed, round; steps (local steps of all clients), seconds (wall time of training), bytes
        (sent and received by all clients), each added up over the rounds so far; accuracy in percent. Fine-tuning after
        the last round is in that round. Who is not trained takes no steps.
    """
    lines = []
    for row, column, experiment, record in records(grid, store):
        spent = np.zeros(3)
        for entry in record["rounds"]:
            sent = sum(sum(entry[way].values()) for way in ("bytes_up", "bytes_down"))
            spent += (_steps(experiment, record, entry), entry["seconds"]["train"], sent)
            lines.append({"row": row, "column": column.title, "seed": experiment.seed, "round": entry["number"],
                          **dict(zip(COSTS, spent, strict=True)), "accuracy": 100 * np.mean(_of(column, entry))})
    return pd.DataFrame(lines)


def matched(grid: Grid, store: Store) -> pd.DataFrame:
    """The methods at equal cost: the least that any trained row spends in its whole run is what all may spend.

    Returns:
        A line per compared row: columns steps, seconds and bytes, in each the accuracy in percent (mean over columns
        and seeds) after the last round within that budget, missing where already the first round is beyond it; as
        `attrs["budget"]` what may be spent. A row that spends nothing sets no budget, and has its last accuracy.
    """
    curves = by_cost(grid, store)
    rows = [row.title for row in grid.compared]
    total = curves.groupby("row")[list(COSTS)].max().loc[rows]
    trained = total[total["steps"] > 0]
    budget = {cost: float(trained[cost][trained[cost] > 0].min()) for cost in COSTS}
    found = {cost: {row: own["accuracy"][own[cost] <= budget[cost]].iloc[-1:].mean() for row in rows
                    for own in (curves[curves["row"] == row],)} for cost in COSTS}
    table = pd.DataFrame(found, index=rows)
    table.attrs["budget"] = budget
    return table


def by_cost(grid: Grid, store: Store) -> pd.DataFrame:
    """`compute`, averaged over columns and seeds: a line per row and round that all of the row's runs have."""
    groups = compute(grid, store).groupby(["row", "round"], sort=False)
    means = groups[[*COSTS, "accuracy"]].mean()
    runs = groups.size()
    return means[runs == runs.groupby("row").transform("max")].reset_index()


def traffic(grid: Grid, store: Store) -> pd.DataFrame:
    """What the methods cost: one line per row of the table, means over its runs.

    Returns:
        Columns bytes_up and bytes_down (of a client in a round that it takes part in), total (of all clients in the
        whole run, both ways), and seconds (wall time of a run).
    """
    lines = []
    for row, _, _, record in records(grid, store):
        total = sum(sum(entry[way].values()) for entry in record["rounds"] for way in ("bytes_up", "bytes_down"))
        lines.append({"row": row, "total": total})
    table = cells(grid, store).groupby("row", sort=False)[["bytes_up", "bytes_down", "seconds"]].mean()
    table.insert(2, "total", pd.DataFrame(lines).groupby("row", sort=False)["total"].mean())
    return table


def summary(grid: Grid, store: Store) -> pd.DataFrame:
    """One line per cell of the table, in the grid's order.

    Returns:
        Columns row, column, mean, std (population, over seeds), seeds, mean_last5, worst_client, seconds,
        attention_entropy, sigma, published_mean, published_std (missing where the paper has no such cell), and
        difference (only in the `paper` profile: elsewhere the published cell is about another data set and another
        CLIP). The cells of `grid.missing` columns have no numbers but the published ones.
    """
    groups = cells(grid, store).groupby(["row", "column"], sort=False)
    table = groups.agg(
        mean=("accuracy", "mean"), std=("accuracy", lambda values: values.std(ddof=0)), seeds=("seed", "count"),
        mean_last5=("accuracy_last5", "mean"), worst_client=("worst_client", "mean"), seconds=("seconds", "mean"),
        attention_entropy=("attention_entropy", "mean"), sigma=("sigma", "mean"))
    everything = [(row.title, column.title) for row in grid.rows for column in grid.columns]
    table = table.reindex(pd.MultiIndex.from_tuples(everything, names=["row", "column"]))
    table["seeds"] = table["seeds"].fillna(0).astype(int)
    known = _published(grid)
    table["published_mean"] = [known.get(cell, (np.nan, np.nan))[0] for cell in table.index]
    table["published_std"] = [known.get(cell, (np.nan, np.nan))[1] for cell in table.index]
    table["difference"] = table["mean"] - table["published_mean"] if grid.profile == "paper" else np.nan
    return table.reset_index()


def records(grid: Grid, store: Store) -> Iterator[tuple[str, Column, Experiment, Record]]:
    """Row title, column, experiment and record of every cell and seed of the grid, in its order.

    Raises:
        UserError: runs of the grid are not in the store.
    """
    found = {experiment: store.get(experiment) for experiment in grid}
    if missing := [experiment for experiment, record in found.items() if record is None]:
        raise UserError(f"{len(missing)} of {len(found)} runs of {grid.name} ({grid.profile}) are not in "
                        f"{store.folder}: run them first, with runs.run_all or `pfedmoap reproduce`.")
    columns = {column.title: column for column in grid.columns}
    for (row, column), experiments in grid.cells.items():
        for experiment in experiments:
            yield row, columns[column], experiment, found[experiment]


def _of(column: Column, entry: Record) -> list[float]:
    """A round's accuracies of the column's clients, 0 to 1."""
    return entry["accuracies"][column.clients(len(entry["accuracies"]))]


def _steps(experiment: Experiment, record: Record, entry: Record) -> int:
    """Local steps of all clients that trained in a round."""
    images, recipe = record["data"]["train_images"], experiment.recipe
    steps = sum(count_steps(images[int(client)], recipe) for client in entry["losses"])
    if epochs := experiment.method.fine_tuning_epochs * (entry["number"] == experiment.rounds):
        steps += sum(count_steps(count, replace(recipe, epochs=epochs)) for count in images)
    return steps


def _mean_sigma(record: Record) -> float:
    sigmas = [sigma for entry in record["rounds"] for sigma in entry.get("sigmas", {}).values()]
    return float(np.mean(sigmas)) if sigmas else np.nan


def _traffic(entry: Record) -> tuple[float, float]:
    """Mean bytes (up, down) in a round over the clients that took part."""
    taking_part = max(len(entry["selected"]), 1)
    return sum(entry["bytes_up"].values()) / taking_part, sum(entry["bytes_down"].values()) / taking_part


def _published(grid: Grid) -> dict[tuple[str, str], tuple[float, float]]:
    """(row title, column title) -> the paper's mean and std."""
    if not any(row.published for row in grid.rows):
        return {}
    cells = {(line.method, line.dataset): (line.mean, line.std) for line in published_cells(grid.name).itertuples()}
    return {(row.title, column.title): cells[row.published, column.title]
            for row in grid.rows for column in grid.columns if (row.published, column.title) in cells}
