"""The table of a grid: its cells, the caption that says what was run, how it reads in words, and its files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from pfedmoap.methods import PFedMoAP
from pfedmoap.paper import GRIDS, Grid
from pfedmoap.results import records, summary
from pfedmoap.store import Store, write_atomically
from pfedmoap.tables import Block, Table

# The settings that captions compare with the paper's, and those that they always name.
_SETTINGS = ("model", "weights", "precision", "clients", "partition", "alpha", "shots", "views", "context_tokens",
             "rounds", "participation", "local_epochs", "batch_size", "lr", "momentum", "weight_decay", "schedule")
_SHOWN = ("clients", "partition", "shots", "rounds", "local_epochs", "participation", "batch_size", "context_tokens")


# --- the table


def table(grid: Grid, store: Store) -> Table:
    """The grid's table: reproduced mean ± std, with the published cell and the difference where the data are the same.

    Outside the `paper` profile the published numbers are a block of their own, as they are about other data.
    """
    numbers = summary(grid, store).set_index(["row", "column"])
    blocks = _paper_blocks(grid, numbers) if grid.profile == "paper" else _stand_in_blocks(grid, numbers)
    return Table(caption(grid, store), blocks)


def write_table(grid: Grid, store: Store, folder: str | Path) -> list[Path]:
    """Writes <name>.csv (one line per cell), <name>.md and <name>.tex; returns their paths."""
    data = summary(grid, store).rename(columns={"row": "method"})
    datasets = {column.title: column.dataset for column in grid.columns}
    data.insert(2, "dataset", data["column"].map(datasets))
    data.insert(0, "table", grid.name)
    data.insert(1, "profile", grid.profile)
    if grid.profile != "paper":  # numbers about other data do not belong on the same line
        data = data.drop(columns=["published_mean", "published_std", "difference"])
    shown = table(grid, store)
    paths = [write_frame(data, folder, grid.name)]
    for ending, text in (("md", shown.to_markdown()), ("tex", shown.to_latex())):
        paths.append(Path(folder) / f"{grid.name}.{ending}")
        write_atomically(paths[-1], text.encode())
    return paths


def write_frame(data: pd.DataFrame, folder: str | Path, name: str) -> Path:
    """Writes <name>.csv without the index, numbers with four decimals; returns its path."""
    path = Path(folder) / f"{name}.csv"
    write_atomically(path, data.to_csv(index=False, float_format="%.4f", lineterminator="\n").encode())
    return path


def _stand_in_blocks(grid: Grid, numbers: pd.DataFrame) -> tuple[Block, ...]:
    rows, columns = _titles(grid, control=False), [column.title for column in grid.columns]
    blocks = [_block("Run here, on embedded stand-ins", numbers, rows, columns, "mean", "std")] if rows else []
    blocks += _control_blocks(grid, numbers)
    for block in blocks:
        block.text.columns = block.bold.columns = [column.dataset for column in grid.columns]
    if known := [row for row in rows if numbers.loc[row, "published_mean"].notna().any()]:
        heading = "Published in the paper, on other data and another CLIP: not to be compared cell by cell"
        blocks.append(_block(heading, numbers, known, columns, "published_mean", "published_std"))
    return tuple(blocks)


def _control_blocks(grid: Grid, numbers: pd.DataFrame) -> list[Block]:
    """The controls, below a rule of their own and never in bold."""
    rows, columns = _titles(grid, control=True), [column.title for column in grid.columns]
    if not rows:
        return []
    block = _block("Controls, untrained or crippled on purpose: how much is knowing one's own classes, and how much "
                   "is left without experts or a trained prompt", numbers, rows, columns, "mean", "std")
    return [Block(block.heading, block.text, block.bold & False)]


def _titles(grid: Grid, control: bool) -> list[str]:
    return [row.title for row in grid.rows if row.control == control]


def _paper_blocks(grid: Grid, numbers: pd.DataFrame) -> tuple[Block, ...]:
    """One block of methods, each with its published line and the difference under it; then the controls."""
    rows, columns = _titles(grid, control=False), [column.title for column in grid.columns]
    if not rows:
        return tuple(_control_blocks(grid, numbers))
    here = _block("Run here, and as published", numbers, rows, columns, "mean", "std")
    known = _block("", numbers, rows, columns, "published_mean", "published_std")
    lines, bold = {}, {}
    for row in rows:
        lines[row], bold[row] = here.text.loc[row], here.bold.loc[row]
        difference = numbers.loc[row, "difference"].reindex(columns)
        if difference.notna().any():
            lines[f"{row}: published"], bold[f"{row}: published"] = known.text.loc[row], False & here.bold.loc[row]
            lines[f"{row}: difference"] = difference.map(lambda value: f"{value:+.2f}" if value == value else "")
            bold[f"{row}: difference"] = False & here.bold.loc[row]
    methods = Block(here.heading, pd.DataFrame(lines).T[columns], pd.DataFrame(bold).T[columns].astype(bool))
    return methods, *_control_blocks(grid, numbers)


def _block(heading: str, numbers: pd.DataFrame, rows, columns, mean: str, std: str) -> Block:
    """Cells as "mean ± std"; the best of a column, as printed, in bold."""
    means = numbers[mean].unstack("column").loc[rows, columns].round(2)
    spreads = numbers[std].unstack("column").loc[rows, columns]
    several = numbers["seeds"].max() > 1 or std != "std"
    text = pd.DataFrame({column: [_cell(m, s, several) for m, s in zip(means[column], spreads[column], strict=True)]
                         for column in columns}, index=rows)
    return Block(heading, text, means.eq(means.max()) if len(rows) > 1 else means.isna())


def _cell(mean: float, std: float, several: bool) -> str:
    if np.isnan(mean):
        return ""
    return f"{mean:.2f} ± {std:.2f}" if several else f"{mean:.2f}"


# --- in words


def caption(grid: Grid, store: Store) -> str:
    """What was run to get the table, and what differs from the paper."""
    names = dict(zip([column.title for column in grid.columns], headings(grid), strict=True))
    values = {name: _in_words(_settings(grid, name), names) for name in ("model", "weights", *_SHOWN)}
    return " ".join([
        _subject(grid),
        f"Accuracy in percent on the clients' private test sets after the last round, unweighted mean over clients; "
        f"{_spread(grid)}; bold: best of a column.",
        f"Settings: CLIP {values['model']} ({values['weights']}), "
        + ", ".join(f"{name.replace('_', ' ')} {values[name]}" for name in _SHOWN) + ".",
        *_notes(grid, store),
        _departures(grid)])


def reading(grid: Grid, store: Store) -> str:
    """Who is ahead of whom, where and by how much, in sentences computed from the records."""
    numbers = summary(grid, store)
    means, stds = (_square(grid, numbers, name) for name in ("mean", "std"))
    controls = means.loc[_titles(grid, control=True)]
    means = means.loc[_titles(grid, control=False)]
    average = means.mean(axis=1).sort_values(ascending=False, kind="stable")
    text = "Mean over the columns: " + ", ".join(f"{row} {value:.1f} %" for row, value in average.items()) + "."
    if len(controls):
        levels = controls.mean(axis=1).sort_values(ascending=False, kind="stable")
        text += " Controls: " + ", ".join(f"{row} {value:.1f} %" for row, value in levels.items()) + "."
    ours = [row.title for row in grid.rows if isinstance(row.method, PFedMoAP) and not row.control]
    others = means.drop(index=ours)
    if ours and len(others):
        # The default settings, as the paper does: picking the best variant after the fact would flatter it.
        default = [row.title for row in grid.rows if row.method == PFedMoAP()]
        text = _leads((default or ours)[0], means, stds, others, numbers["seeds"].min()) + " " + text
    if (off := numbers["difference"].dropna()).size:
        text += (f" Against the published cells the differences go from {off.min():+.1f} to {off.max():+.1f} points "
                 f"({off.abs().mean():.1f} in size on average).")
    return text


def _square(grid: Grid, numbers: pd.DataFrame, name: str) -> pd.DataFrame:
    """One of the summary's columns, laid out as the table."""
    frame = numbers.pivot(index="row", columns="column", values=name)
    frame = frame.loc[[row.title for row in grid.rows], [column.title for column in grid.columns]]
    return frame.set_axis(headings(grid), axis=1)


def _leads(ours: str, means: pd.DataFrame, stds: pd.DataFrame, others: pd.DataFrame, seeds: int) -> str:
    """Where one row is ahead of the best of the others, and whether by more than the larger of the two spreads."""
    rivals = others.idxmax()
    lead = means.loc[ours] - others.max()
    spread = pd.Series({column: max(stds.at[ours, column], stds.at[rivals[column], column]) for column in means})
    ahead, behind = lead[lead > 0], lead[lead <= 0]
    text = f"{ours} is ahead of the best other method on {len(ahead)} of {len(lead)} data sets"
    if len(ahead):
        text += " (" + ", ".join(f"{column} {value:+.1f}" for column, value in ahead.items()) + " points)"
    if seeds > 1 and len(ahead):
        text += f", by more than the spread over seeds on {int((ahead > spread[ahead.index]).sum())}"
    text += "; with one seed there is no spread to compare with." if seeds == 1 else "."
    if len(behind):
        text += " It is not ahead on " + ", ".join(
            f"{column} ({rivals[column]} {means.at[rivals[column], column]:.1f} %, it {means.at[ours, column]:.1f} %)"
            for column in behind.index) + "."
    return text


def headings(grid: Grid) -> list[str]:
    """The columns' names: of the data that were really run."""
    return [column.title if grid.profile == "paper" else column.dataset for column in grid.columns]


def _subject(grid: Grid) -> str:
    title = grid.name.replace("table", "Table ").replace("figure", "Figure ")
    if grid.profile == "paper":
        return f"{title}, profile paper, on {', '.join(column.title for column in grid.columns)}."
    pairs = [f"{column.dataset} in place of {column.title}" for column in grid.columns]
    return (f"{title}, profile {grid.profile}, on embedded stand-ins ({', '.join(pairs)}): they show the "
            f"code at work and how the methods behave on small data, and are no evidence for the paper's numbers.")


def _spread(grid: Grid) -> str:
    seeds = sorted({experiment.seed for experiment in grid})
    if len(seeds) == 1:
        return f"one seed ({seeds[0]}), so no spread"
    return (f"± is the population standard deviation (ddof 0) over {len(seeds)} seeds "
            f"({', '.join(map(str, seeds))})")


def _notes(grid: Grid, store: Store) -> list[str]:
    """What the data loaders and partitions had to do otherwise."""
    data = [(column, record["data"]) for _, column, _, record in records(grid, store)]
    own = sorted({column for column, facts in data if "not CoOp's split" in facts["source"]})
    notes = sorted({note for _, facts in data for note in facts["notes"]})
    return [f"Not CoOp's split: {', '.join(own)}."] * bool(own) + [f"{note[:1].upper()}{note[1:]}." for note in notes]


def _departures(grid: Grid) -> str:
    """The settings that are not those of the paper's own grid, with the paper's value."""
    names = dict(zip([column.title for column in grid.columns], headings(grid), strict=True))
    paper = GRIDS[grid.name]("paper")
    rows = [row.title for row in grid.rows if row.title in {row.title for row in paper.rows}]
    differing = []
    for name in _SETTINGS:
        here, there = _settings(grid, name), _settings(paper, name).loc[rows, [column.title for column in grid.columns]]
        if not here.loc[rows].equals(there):
            differing.append(f"{name.replace('_', ' ')} {_in_words(here, names)} (paper: {_in_words(there)})")
    if not differing:
        return "All of them are this project's reading of section 4.1 of the paper."
    return "Not as in the paper: " + "; ".join(differing) + "."


def _settings(grid: Grid, name: str) -> pd.DataFrame:
    """A setting of every cell, as text: rows and columns as in the table."""
    def text(value) -> str:
        match name, value:
            case "participation", _:
                return f"{100 * value:g} %"
            case "weights", None:
                return "shipped weights"
            case "weights", _:
                return Path(value).name
            case "shots", None:
                return "all"
            case _:
                return f"{value:g}" if isinstance(value, float) else str(value)

    return pd.DataFrame([[text(getattr(grid.cells[row.title, column.title][0], name)) for column in grid.columns]
                         for row in grid.rows],
                        index=[row.title for row in grid.rows], columns=[column.title for column in grid.columns])


def _in_words(settings: pd.DataFrame, names: Mapping[str, str] = {}) -> str:
    """ "10", or "10 (digits: 5)" where a column or a row has a value of its own; `names` are the columns' to show."""
    usual = settings.stack().mode()[0]
    for frame in (settings, settings.T):
        if (frame.nunique() == 1).all():
            own = [f"{names.get(key, key)}: {value}" for key, value in frame.iloc[0].items() if value != usual]
            return usual + (f" ({', '.join(own)})" if own else "")
    return " or ".join(settings.stack().unique())
