"""A grid in words: the caption that says what was run, and sentences that read it, computed from the records."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pfedmoap.experiments import GRIDS, Grid, Store
from pfedmoap.methods import PFedMoAP
from pfedmoap.reports.numbers import records, summary

# The settings that captions compare with the paper's, and those that they always name.
_SETTINGS = ("model", "weights", "precision", "clients", "partition", "alpha", "shots", "views", "context_tokens",
             "rounds", "participation", "local_epochs", "batch_size", "lr", "momentum", "weight_decay", "schedule")
_SHOWN = ("clients", "partition", "shots", "rounds", "local_epochs", "participation", "batch_size", "context_tokens")


# --- what was run


def caption(grid: Grid, store: Store) -> str:
    """What was run to get the table, what differs from the paper, and which columns are empty and why."""
    names = _names(grid)
    values = {name: _in_words(_settings(grid, name), names) for name in ("model", "weights", *_SHOWN)}
    return " ".join([
        _subject(grid),
        f"Accuracy in percent on the clients' private test sets after the last round, unweighted mean over clients; "
        f"{_spread(grid)}; bold: best of a column.",
        f"Settings: CLIP {values['model']} ({values['weights']}), "
        + ", ".join(f"{name.replace('_', ' ')} {values[name]}" for name in _SHOWN) + ".",
        *_notes(grid, store),
        _departures(grid),
        *_empty(grid)])


def title_of(grid: Grid) -> str:
    """Such as "Table 1"."""
    return grid.name.replace("table", "Table ").replace("figure", "Figure ")


def _subject(grid: Grid) -> str:
    if grid.profile == "paper":
        return f"{title_of(grid)}, profile paper, on {', '.join(column.title for column in grid.columns)}."
    pairs = [f"{heading} in place of {column.title}"
             for heading, column in zip(grid.headings(), grid.columns, strict=True) if heading != "average"]
    return (f"{title_of(grid)}, profile {grid.profile}, on embedded data ({', '.join(pairs)}): other images and "
            f"another CLIP than the paper's, whose cells are not comparable one by one.")


def _spread(grid: Grid) -> str:
    seeds = sorted({experiment.seed for experiment in grid})
    if len(seeds) == 1:
        return f"one seed ({seeds[0]}), so no spread"
    return (f"± is the population standard deviation (ddof 0) over {len(seeds)} seeds "
            f"({', '.join(map(str, seeds))})")


def _notes(grid: Grid, store: Store) -> list[str]:
    """What the data loaders and partitions had to do otherwise."""
    data = [(column.title, record["data"]) for _, column, _, record in records(grid, store)]
    own = sorted({column for column, facts in data if "not CoOp's split" in facts["source"]})
    notes = sorted({note for _, facts in data for note in facts["notes"]})
    return [f"Not CoOp's split: {', '.join(own)}."] * bool(own) + [f"{note[:1].upper()}{note[1:]}." for note in notes]


def _empty(grid: Grid) -> list[str]:
    """Which columns have no numbers, and why."""
    reasons: dict[str, list[str]] = {}
    for column, reason in grid.missing.items():
        reasons.setdefault(reason, []).append(column)
    return [f"No numbers for {', '.join(columns)}: {without_folders(reason).rstrip('.')}."
            for reason, columns in reasons.items()]


def without_folders(text: str) -> str:
    """The text with absolute paths cut down to their last name: where things lie on a machine is nobody's business."""
    return re.sub(r"(?<![\w.%])(?:~|[A-Za-z]:)?(?:[/\\][\w.+@~-]+)*[/\\]([\w.+@~-]+)/?", r"\1", text)


def _departures(grid: Grid) -> str:
    """The settings that are not those of the paper's own grid, with the paper's value."""
    paper = GRIDS[grid.name]("paper")
    titles = {row.title for row in paper.rows}
    rows = [row.title for row in grid.rows if row.title in titles]
    columns = [column.title for column in grid.columns if column.title not in grid.missing]
    differing = []
    for name in _SETTINGS:
        here, there = _settings(grid, name).loc[rows, columns], _settings(paper, name).loc[rows, columns]
        if not here.equals(there):
            differing.append(f"{name.replace('_', ' ')} {_in_words(here, _names(grid))} (paper: {_in_words(there)})")
    differing += _method_departures(grid, paper, rows)
    if not differing:
        return "All of them are this project's reading of section 4.1 of the paper."
    return "Not as in the paper: " + "; ".join(differing) + "."


def _method_departures(grid: Grid, paper: Grid, rows: list[str]) -> list[str]:
    """Settings of the methods (λ, K, d_gating, ...) that are not the paper's: row by row."""
    own, theirs = ({row.title: row.method for row in each.rows} for each in (grid, paper))
    found: dict[str, list[str]] = {}
    for row in rows:
        for item in dataclasses.fields(own[row]):
            here, there = getattr(own[row], item.name), getattr(theirs[row], item.name, None)
            if here != there:
                found.setdefault(item.name, []).append(f"{row}: {here}, paper: {there}")
    return [f"{name} ({'; '.join(lines)})" for name, lines in found.items()]


def _settings(grid: Grid, name: str) -> pd.DataFrame:
    """A setting of every cell that is run, as text: rows and columns as in the table."""
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

    columns = [column.title for column in grid.columns if column.title not in grid.missing]
    return pd.DataFrame([[text(getattr(grid.cells[row.title, column][0], name)) for column in columns]
                         for row in grid.rows], index=[row.title for row in grid.rows], columns=columns)


def _names(grid: Grid) -> dict[str, str]:
    return dict(zip([column.title for column in grid.columns], grid.headings(), strict=True))


def _in_words(settings: pd.DataFrame, names: Mapping[str, str] = {}) -> str:
    """ "10", or "10 (digits: 5)" where a column or a row has a value of its own; `names` are the columns' to show."""
    usual = settings.stack().mode()[0]
    for frame in (settings, settings.T):
        if (frame.nunique() == 1).all():
            own = [f"{names.get(key, key)}: {value}" for key, value in frame.iloc[0].items() if value != usual]
            return usual + (f" ({', '.join(own)})" if own else "")
    return " or ".join(settings.stack().unique())


# --- what came out


def reading(grid: Grid, store: Store) -> str:
    """Who is ahead of whom, where and by how much, in sentences computed from the records."""
    return " ".join(sentences(grid, store))


def sentences(grid: Grid, store: Store) -> list[str]:
    """What `reading` joins: one statement each."""
    numbers = summary(grid, store)
    numbers = numbers[numbers["seeds"] > 0]
    means, stds = (_square(grid, numbers, name) for name in ("mean", "std"))
    said = _curves(grid, means) if grid.axis else []
    compared = [row.title for row in grid.compared]
    ours = [row.title for row in grid.compared if isinstance(row.method, PFedMoAP)]
    rivals = [row for row in compared if row not in ours]
    if not grid.axis:
        if ours and rivals and not any(row.settings for row in grid.compared):
            said.append(_leads(_default(grid, ours), means, stds, means.loc[rivals], numbers["seeds"].min()))
        elif len(ours) > 1 and not rivals:
            said.append(_spans(means.loc[ours], stds.loc[ours]))
        said.append("Mean over the columns: " + _averages(means.loc[compared]))
    for title, rows in (("Under the released code's protocol: ", [row.title for row in grid.rows if row.released]),
                        ("Controls: ", [row.title for row in grid.rows if row.control])):
        if rows and rows != compared:
            said.append(title + _averages(means.loc[rows]))
    said += _privacy(grid, numbers) + _attention(grid, numbers)
    if (off := numbers["difference"].dropna()).size:
        said.append(f"Against the published cells the differences go from {off.min():+.1f} to {off.max():+.1f} "
                    f"points ({off.abs().mean():.1f} in size on average).")
    return said


def _default(grid: Grid, ours: list[str]) -> str:
    """The default settings, as the paper does: picking the best variant after the fact would flatter it."""
    default = [row.title for row in grid.compared if row.method == PFedMoAP()]
    return (default or ours)[0]


def _square(grid: Grid, numbers: pd.DataFrame, name: str) -> pd.DataFrame:
    """One of the summary's columns, laid out as the table, without the columns that were not run."""
    frame = numbers.pivot(index="row", columns="column", values=name)
    here = {title: heading for title, heading in _names(grid).items() if title in frame}
    return frame.loc[[row.title for row in grid.rows], list(here)].set_axis(list(here.values()), axis=1)


def _averages(means: pd.DataFrame) -> str:
    average = means.mean(axis=1).sort_values(ascending=False, kind="stable")
    return ", ".join(f"{row} {value:.1f} %" for row, value in average.items()) + "."


def _leads(ours: str, means: pd.DataFrame, stds: pd.DataFrame, others: pd.DataFrame, seeds: int) -> str:
    """Where one row is ahead of the best of the others, and whether by more than the larger of the two spreads."""
    rivals = others.idxmax()
    lead = means.loc[ours] - others.max()
    spread = pd.Series({column: max(stds.at[ours, column], stds.at[rivals[column], column]) for column in means})
    ahead, behind = lead[lead > 0], lead[lead <= 0]
    text = f"{ours} is ahead of the best other method on {len(ahead)} of {len(lead)} columns"
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


def _spans(means: pd.DataFrame, stds: pd.DataFrame) -> str:
    """How far the variants of one method lie apart, beside the spread over seeds."""
    apart, noise = means.max() - means.min(), stds.mean()
    return ("Between the best and the worst variant lie " + ", ".join(
        f"{value:.1f} points on {column} ({means[column].idxmax()} is best; spread over seeds {noise[column]:.1f})"
        for column, value in apart.items()) + ".")


def _curves(grid: Grid, means: pd.DataFrame) -> list[str]:
    """Where each curve has its best point, and what lies between its ends."""
    said = []
    for curve in dict.fromkeys(row.curve for row in grid.rows if row.curve):
        points = {row.x: means.loc[row.title] for row in grid.rows if row.curve == curve}
        frame = pd.DataFrame(points).sort_index(axis=1)  # (columns, points)
        average = frame.mean()
        best = ", ".join(f"{column} {frame.loc[column].idxmax():g}" for column in frame.index)
        said.append(
            f"{curve}, mean over the columns: from {average.iloc[0]:.1f} % at {grid.axis} {average.index[0]:g} to "
            f"{average.iloc[-1]:.1f} % at {average.index[-1]:g}, at best {average.max():.1f} % at "
            f"{average.idxmax():g} (best by column: {best}).")
    return said


def _privacy(grid: Grid, numbers: pd.DataFrame) -> list[str]:
    """What differential privacy costs each method: the loss against the same method without it."""
    mean = numbers.groupby("row", sort=False)["mean"].mean()
    plain = {row.method: row.title for row in grid.compared if not row.settings}
    private = [row for row in grid.rows if row.settings.get("epsilon") and row.method in plain]
    costs = [f"{row.title} {mean[row.title] - mean[plain[row.method]]:+.1f}" for row in private]
    return [f"Against the same method without privacy, in points: {', '.join(costs)}."] if costs else []


def _attention(grid: Grid, numbers: pd.DataFrame) -> list[str]:
    """Whether the gate tells its experts apart."""
    rows = [row.title for row in grid.compared if isinstance(row.method, PFedMoAP)]
    entropy = numbers[numbers["row"].isin(rows)]["attention_entropy"].dropna()
    if entropy.empty:
        return []
    verdict = "it weighs all experts alike" if entropy.min() > 0.99 else "it does not weigh all experts alike"
    return [f"The entropy of pFedMoAP's attention over its experts is {entropy.min():.3f} to {entropy.max():.3f} of "
            f"the most possible: {verdict}."]
