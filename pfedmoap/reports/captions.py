"""A grid in words: the caption that says what was run, and sentences that read it, computed from the records."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pfedmoap.experiments import GRIDS, Grid, Row, Store
from pfedmoap.methods import Classifier, PFedMoAP
from pfedmoap.reports.numbers import clients, records, summary
from pfedmoap.reports.statistics import LEVEL, against_best, can_separate, compare, smallest_p

# The settings that captions compare with the paper's, and those that they always name.
_SETTINGS = ("model", "weights", "precision", "clients", "partition", "alpha", "shots", "views", "test_images",
             "context_tokens", "rounds", "participation", "local_epochs", "batch_size", "lr", "momentum",
             "weight_decay", "schedule")
_SHOWN = ("clients", "partition", "shots", "rounds", "local_epochs", "participation", "batch_size", "context_tokens")


# --- what was run


def caption(grid: Grid, store: Store) -> str:
    """What was run to get the table, what differs from the paper, and which columns are empty and why."""
    names = _names(grid)
    values = {name: _in_words(_settings(grid, name), names) for name in ("model", "weights", *_SHOWN)}
    return " ".join([
        _subject(grid),
        f"Accuracy in percent on the clients' private test sets after the last round, unweighted mean over clients; "
        f"{_spread(grid)}; {_marks(grid)}.",
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


def _marks(grid: Grid) -> str:
    """What bold and underlined cells are."""
    seeds = len({experiment.seed for experiment in grid})
    if not can_separate(seeds):
        return (f"underlined: best of a column, which {_number(seeds)} cannot tell from the others (the smallest p is "
                f"{smallest_p(seeds):.2g}; six can)")
    return (f"bold: best of a column, by the exact sign-flip test over seeds better than every other row (p at most "
            f"{LEVEL}); underlined: where none is, those that cannot be told from the best")


def _number(seeds: int) -> str:
    return "one seed" if seeds == 1 else f"{seeds} seeds"


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
    rows = [row.title for row in grid.rows if row.title in titles and not _alone(row)]
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
    """A setting of every cell that is run, as text: rows and columns as in the table, without those that have none."""
    def text(value) -> str:
        match name, value:
            case "participation", _:
                return f"{100 * value:g} %"
            case "weights", None:
                return "shipped weights"
            case "weights", _:
                return Path(value).name
            case "shots" | "test_images", None:
                return "all"
            case _:
                return f"{value:g}" if isinstance(value, float) else str(value)

    columns = [column.title for column in grid.columns if column.title not in grid.missing]
    rows = [row.title for row in grid.rows if not _alone(row)] or [row.title for row in grid.rows]
    return pd.DataFrame([[text(getattr(grid.cells[row, column][0], name)) for column in columns] for row in rows],
                        index=rows, columns=columns)


def _alone(row: Row) -> bool:
    """Whether it is a plain classifier that every client fits for itself: it has no rounds, and no local epochs."""
    return isinstance(row.method, Classifier)


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
    """What `reading` joins: one statement each. Who is ahead of whom is said with its test."""
    numbers = summary(grid, store)
    numbers = numbers[numbers["seeds"] > 0]
    means, each = _square(grid, numbers, "mean"), clients(grid, store)
    said = _curves(grid, means, each) if grid.axis else []
    compared = [row.title for row in grid.compared]
    others = [row for row in grid.rows if row.control and row.title not in compared]
    controls, classifiers = ([row.title for row in others if row.method.plain is plain] for plain in (False, True))
    ours = [row.title for row in grid.compared if isinstance(row.method, PFedMoAP)]
    rivals = [row for row in compared if row not in ours]
    if not grid.axis:
        default = _default(grid, ours) if ours and not any(row.settings for row in grid.compared) else None
        if default and rivals:
            said.append(_columns(default, means, means.loc[rivals]))
        if default and len(compared) > 1:
            said.append(_tests(default, [row for row in compared if row != default] + controls + classifiers, each))
        said.append("Mean over the columns: " + _averages(means.loc[compared]))
    for title, rows in (("Under the released code's protocol: ", [row.title for row in grid.rows if row.released]),
                        ("Controls: ", controls), ("Plain classifiers: ", classifiers)):
        if rows:
            said.append(title + _averages(means.loc[rows]))
    said += _privacy(grid, each) + _attention(grid, numbers)
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


def _columns(ours: str, means: pd.DataFrame, others: pd.DataFrame) -> str:
    """By column, one row's mean beside that of the best other method; no test."""
    rivals, lead = others.idxmax(), means.loc[ours] - others.max()
    higher, not_higher = lead[lead > 0], lead[lead <= 0]
    text = f"{ours} has a higher mean than the best other method on {len(higher)} of {len(lead)} columns"
    if len(higher):
        text += " (" + ", ".join(f"{column} {value:+.1f}" for column, value in higher.items()) + " points)"
    if len(not_higher):
        text += ", and not on " + ", ".join(
            f"{column} ({rivals[column]} {means.at[rivals[column], column]:.1f} %, it {means.at[ours, column]:.1f} %)"
            for column in not_higher.index)
    return text + "."


def _tests(ours: str, others: list[str], each: pd.DataFrame) -> str:
    """Which rows one is ahead of, behind, or cannot be told from, on the mean over the columns."""
    seeds = each["seed"].nunique()
    if not can_separate(seeds):
        return (f"{_number(seeds).capitalize()} cannot tell methods apart: the smallest p of a test over seeds is "
                f"{smallest_p(seeds):.2g}; six can (`--seeds 1,2,3,4,5,6`).")
    found = compare(each, ours, others)
    told = found["p_corrected"] <= LEVEL
    groups = (("is ahead of", found[told & (found["difference"] > 0)]),
              ("is behind", found[told & (found["difference"] < 0)]), ("cannot be told from", found[~told]))
    parts = [f"{verb} {_differences(group)}" for verb, group in groups if len(group)]
    several = f", corrected for {len(others)} comparisons (Westfall and Young)" if len(others) > 1 else ""
    return (f"On the mean over the columns {ours} {'; it '.join(parts)}. In brackets the difference in points, of the "
            f"nearest with its 95 % interval; p of the exact sign-flip test over {seeds} seeds{several}.")


def _differences(lines: pd.DataFrame) -> str:
    """Such as "FedOTP (+3.6, 1.6 to 6.1), CoOp (+5.3); p 0.031": the nearest first, and the range of p."""
    nearest, *others = (lines.loc[row] for row in lines["difference"].abs().sort_values(kind="stable").index)
    shown = [f"{nearest.name} ({nearest['difference']:+.1f}, {nearest['low']:.1f} to {nearest['high']:.1f})"]
    shown += [f"{line.name} ({line['difference']:+.1f})" for line in others]
    ends = dict.fromkeys(f"{p:.2g}" for p in (lines["p_corrected"].min(), lines["p_corrected"].max()))
    return f"{', '.join(shown)} with p {' to '.join(ends)}"


def _difference(row: str, line: pd.Series) -> str:
    """Such as "CoOp (+5.3, 2.6 to 8.8, p 0.031)"; of one seed "CoOp (+5.3)"."""
    if line["seeds"] == 1:
        return f"{row} ({line['difference']:+.1f})"
    return f"{row} ({line['difference']:+.1f}, {line['low']:.1f} to {line['high']:.1f}, p {line['p_corrected']:.2g})"


def _curves(grid: Grid, means: pd.DataFrame, each: pd.DataFrame) -> list[str]:
    """Where each curve has its best point, which points cannot be told from it, and what lies between its ends."""
    said = []
    for curve in dict.fromkeys(row.curve for row in grid.rows if row.curve):
        titles = {row.x: row.title for row in sorted(grid.rows, key=lambda row: row.x or 0) if row.curve == curve}
        frame = pd.DataFrame({x: means.loc[title] for x, title in titles.items()})  # (columns, points)
        average = frame.mean()
        best = ", ".join(f"{column} {frame.loc[column].idxmax():g}" for column in frame.index)
        text = (f"{curve}, mean over the columns: from {average.iloc[0]:.1f} % at {grid.axis} {average.index[0]:g} to "
                f"{average.iloc[-1]:.1f} % at {average.index[-1]:g}, at best {average.max():.1f} % at "
                f"{average.idxmax():g} (best by column: {best})")
        if can_separate(each["seed"].nunique()):
            p = against_best(each, list(titles.values()))
            close = [f"{x:g}" for x, title in titles.items() if p[title] > LEVEL and x != average.idxmax()]
            text += (f"; by the test over seeds {', '.join(close)} cannot be told from the best" if close
                     else "; by the test over seeds it is better than every other point")
        said.append(text + ".")
    return said


def _privacy(grid: Grid, each: pd.DataFrame) -> list[str]:
    """What differential privacy costs each method: the loss against the same method without it."""
    plain = {row.method: row.title for row in grid.compared if not row.settings}
    private = [row for row in grid.rows if row.settings.get("epsilon") and row.method in plain]
    if not private:
        return []
    lines = [_difference(row.title, compare(each, row.title, [plain[row.method]]).iloc[0]) for row in private]
    return [f"Against the same method without privacy, in points, with the 95 % interval and p of the test over seeds: "
            f"{', '.join(lines)}."]


def _attention(grid: Grid, numbers: pd.DataFrame) -> list[str]:
    """Whether the gate tells its experts apart."""
    rows = [row.title for row in grid.compared if isinstance(row.method, PFedMoAP)]
    entropy = numbers[numbers["row"].isin(rows)]["attention_entropy"].dropna()
    if entropy.empty:
        return []
    verdict = "it weighs all experts alike" if entropy.min() > 0.99 else "it does not weigh all experts alike"
    return [f"The entropy of pFedMoAP's attention over its experts is {entropy.min():.3f} to {entropy.max():.3f} of "
            f"the most possible: {verdict}."]
