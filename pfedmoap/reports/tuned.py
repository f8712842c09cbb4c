"""Table 1 with fair budgets: the paper's settings beside tuned ones, every method with the same number of tries."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pfedmoap.experiments import GROUPS, TRIES, Choices, Grid, Store, Tuning, at_the_edge
from pfedmoap.methods import METHODS
from pfedmoap.reports.layout import Block, Table
from pfedmoap.reports.numbers import cells
from pfedmoap.reports.tables import write_frame
from pfedmoap.system import write_atomically

MEAN = "mean"


def tuned_numbers(grids: Mapping[str, Grid], store: Store) -> pd.DataFrame:
    """The accuracies on the sets that are reported.

    Args:
        grids: of `experiments.tuned_grids`: group of settings -> its runs.

    Returns:
        One line per group, method and data set, and one per group and method with the data set "mean": columns group,
        method, dataset, mean and std (in percent; population standard deviation over seeds, for "mean" of the seeds'
        means over the data sets), seeds.

    Raises:
        UserError: runs are not in the store.
    """
    lines = []
    for group, grid in grids.items():
        names = {column.title: column.dataset for column in grid.columns}
        table = cells(grid, store).pivot(index=["row", "seed"], columns="column", values="accuracy")
        table = table.rename(columns=names)
        table[MEAN] = table.mean(axis=1)  # over the data sets, of each seed
        for row in grid.rows:
            own = table.loc[row.title]  # (seeds, data sets)
            lines += [{"group": group, "method": row.title, "dataset": dataset, "mean": own[dataset].mean(),
                       "std": own[dataset].std(ddof=0), "seeds": len(own)} for dataset in (*names.values(), MEAN)]
    return pd.DataFrame(lines)


def tuned_table(plan: Tuning, choices: Choices, tries: pd.DataFrame, grids: Mapping[str, Grid], store: Store) -> Table:
    """The paper's settings and tuned ones side by side, over all data sets and on each, and what was chosen."""
    numbers = tuned_numbers(grids, store)
    columns = [*(column.dataset for column in plan.columns), MEAN]
    groups = [_by_dataset(numbers[numbers["group"] == group], title, columns) for group, title in GROUPS.items()]
    text, best = (pd.DataFrame({title: getattr(block, part)[MEAN]
                                for title, block in zip(GROUPS.values(), groups, strict=True)})
                  for part in ("text", "underlined"))
    chosen = chosen_settings(choices, tries)
    return Table(_caption(plan, choices, grids), (
        Block("Mean over the data sets", text, best & False, underlined=best), *groups,
        Block("What was chosen on the validation draws", chosen, chosen.isna() & False, "diagnosis")))


def _by_dataset(numbers: pd.DataFrame, title: str, columns: list[str]) -> Block:
    """The numbers of one group of settings: a line per method, a column per data set and their mean."""
    methods = list(dict.fromkeys(numbers["method"]))
    lines = numbers.assign(text=numbers.apply(_cell, axis=1)).set_index(["method", "dataset"])
    text, means = (lines[part].unstack("dataset").loc[methods, columns].rename_axis(None).rename_axis(None, axis=1)
                   for part in ("text", "mean"))
    means = means.round(2)
    best = means.eq(means.max()) if len(methods) > 1 else means.isna() & False
    return Block(f"{title[:1].upper()}{title[1:]}, by data set", text, best & False, underlined=best)


def chosen_settings(choices: Choices, tries: pd.DataFrame) -> pd.DataFrame:
    """The settings of the chosen tries in words: a line per method, a column "all" and one per data set."""
    words = tries.set_index(["method", "dataset", "try"])["settings"]
    datasets = list(dict.fromkeys(tries["dataset"]))
    lines = {METHODS[name].title: {"all": words[name, datasets[0], choices.once[name]]} | {
        dataset: words[name, dataset, own[dataset]] for dataset in datasets}
        for name, own in choices.per_dataset.items()}
    return pd.DataFrame(lines).T


def write_tuned(
    plan: Tuning, choices: Choices, tries: pd.DataFrame, grids: Mapping[str, Grid], store: Store, folder: str | Path
) -> list[Path]:
    """Writes tuned.csv (`tuned_numbers`), tuned.md and tuned.tex (`tuned_table`); returns their paths."""
    shown = tuned_table(plan, choices, tries, grids, store)
    paths = [write_frame(tuned_numbers(grids, store), folder, "tuned")]
    for ending, text in (("md", shown.to_markdown()), ("tex", shown.to_latex())):
        paths.append(Path(folder) / f"tuned.{ending}")
        write_atomically(paths[-1], text.encode())
    return paths


def _caption(plan: Tuning, choices: Choices, grids: Mapping[str, Grid]) -> str:
    seeds = sorted({experiment.seed for experiment in grids["paper"]})
    spread = (f"± is the population standard deviation (ddof 0) over {len(seeds)} seeds "
              f"({', '.join(map(str, seeds))})" if len(seeds) > 1 else f"one seed ({seeds[0]}), so no spread")
    own = ", ".join(map(str, plan.seeds))
    edge = ", ".join(METHODS[name].title for name in at_the_edge(plan, choices))
    return (f"Table 1 with tuned settings, profile {plan.profile}. Accuracy in percent on the clients' private test "
            f"sets after the last round; {spread}; underlined: best of a column, without a test. Every method had "
            f"{TRIES} tries, the paper's setting among them, on validation draws of the training images "
            f"(seed{'s' * (len(plan.seeds) > 1)} {own}); no test image was looked at before the choice. "
            f"Other settings are the profile's."
            + f" Once for all, the smallest or largest learning rate tried was best, so that a better one may lie "
              f"beyond, for {edge}." * bool(edge))


def _cell(line: pd.Series) -> str:
    return f"{line['mean']:.2f} ± {line['std']:.2f}" if line["seeds"] > 1 else f"{line['mean']:.2f}"
