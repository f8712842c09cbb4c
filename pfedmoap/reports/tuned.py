"""Table 1 with fair budgets: the paper's settings beside tuned ones, every method with the same number of tries."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pfedmoap.experiments import GROUPS, TRIES, Choices, Grid, Store, Tuning, at_the_edge
from pfedmoap.methods import METHODS
from pfedmoap.reports.layout import Block, Table, write_frame
from pfedmoap.reports.numbers import cells
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
    return pd.concat([_numbers(grid, store).assign(group=group) for group, grid in grids.items()], ignore_index=True)[
        ["group", "method", "dataset", "mean", "std", "seeds"]]


def _numbers(grid: Grid, store: Store) -> pd.DataFrame:
    """`tuned_numbers` of one grid; "method" is the row's title."""
    names = {column.title: column.dataset for column in grid.columns}
    table = cells(grid, store).pivot(index=["row", "seed"], columns="column", values="accuracy").rename(columns=names)
    table[MEAN] = table.mean(axis=1)  # over the data sets, of each seed
    lines = []
    for row in grid.rows:
        own = table.loc[row.title]  # (seeds, data sets)
        lines += [{"method": row.title, "dataset": dataset, "mean": own[dataset].mean(),
                   "std": own[dataset].std(ddof=0), "seeds": len(own)} for dataset in (*names.values(), MEAN)]
    return pd.DataFrame(lines)


def beside_tuned(grid: Grid, store: Store, folder: str | Path) -> list[Block]:
    """Table 1's methods at the paper's settings, and beside them tuned ones: a group of columns each.

    Args:
        folder: where `pfedmoap tune` writes tuned.csv.

    Returns:
        One block, without bold; none for another table than Table 1, without that file, or if it is about other data.
    """
    path = Path(folder) / "tuned.csv"
    if grid.name != "table1" or grid.missing or not path.is_file():
        return []
    tuned, here = pd.read_csv(path), _numbers(grid, store)
    rows = {row.method.title: row.title for row in grid.compared if row.method == type(row.method)()}
    rows = {method: title for method, title in rows.items() if method in set(tuned["method"])}
    columns = list(dict.fromkeys(here["dataset"]))
    if not rows or set(tuned["dataset"]) != set(columns):
        return []
    tuned = tuned[tuned["method"].isin(rows)].replace({"method": rows})
    once, own = (tuned[tuned["group"] == group] for group in ("once", "per_dataset"))
    groups = {"": here, ", tuned": once, ", tuned per data set": own[own["dataset"] == MEAN]}
    text = pd.concat([_texts(numbers, columns).add_suffix(name) for name, numbers in groups.items()], axis=1)
    text = text.loc[list(rows.values())]
    heading = (f"Fair budgets: the paper's settings, and beside them tuned ones, once for all or per data set: {TRIES} "
               f"tries for every method on validation draws (tuned.md says what was chosen)")
    return [Block(heading, text, text.isna() & False, "tuned")]


def _texts(numbers: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Of `_numbers` the cells as text, a line per method, and those of the columns that there are."""
    lines = numbers.assign(text=numbers.apply(_cell, axis=1)).pivot(index="method", columns="dataset", values="text")
    return lines[[name for name in columns if name in lines]].rename_axis(None).rename_axis(None, axis=1)


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
    text = _texts(numbers, columns).loc[methods]
    means = numbers.pivot(index="method", columns="dataset", values="mean").loc[methods, columns].round(2)
    means = means.rename_axis(None).rename_axis(None, axis=1)
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
