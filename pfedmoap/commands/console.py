"""What the command line shows: tables on standard output, progress and complaints on standard error."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import typer
from rich import table as rich_table
from rich.console import Console
from rich.text import Text

from pfedmoap.audit import VERDICTS, Finding
from pfedmoap.data import CachedTable, Card, Diagnosis
from pfedmoap.experiments import Record, frame, published_zero_shot
from pfedmoap.methods import METHODS
from pfedmoap.reports.claims import EQUAL, Verdict
from pfedmoap.system import printable

MOST_PROBLEMS = 5
MOST_CELLS = 20


class Table(rich_table.Table):
    """A table of plain text: names of folders and of classes are no markup, and steer no terminal."""

    def add_row(self, *cells: str) -> None:
        super().add_row(*(Text(printable(cell)) for cell in cells))


def _line(text: object) -> None:
    typer.echo(printable(text))


def show_records(records: Sequence[Record], profile: str) -> None:
    """One line per method: accuracy (mean and standard deviation over seeds), its worst client, seconds."""
    rows = frame(records)
    first = rows.iloc[0]
    seeds = ", ".join(map(str, rows["seed"].unique()))
    _line(f"{first['dataset']}, {first['partition']}, {first['clients']} clients, {profile} profile, seed {seeds}")
    if first["protocol"] != "paper":
        _line(f"protocol: {first['protocol']}")
    table = Table("method")
    for heading in ("accuracy %", "worst client %", "seconds"):
        table.add_column(heading, justify="right")
    for name, own in rows.groupby("method", sort=False):
        accuracy, worst = own["accuracy"], own["worst_client"]
        spread = f" ± {accuracy.std(ddof=0):.2f}" if len(own) > 1 else ""
        seconds = f"{own['seconds'].sum():.1f}"
        table.add_row(METHODS[name].title, f"{accuracy.mean():.2f}{spread}", f"{worst.mean():.2f}", seconds)
    Console().print(table)
    _show_beyond(rows)
    if len(rows) > len(rows["method"].unique()):
        _line("± is the population standard deviation over the seeds; seconds are their sum")
    score = published_zero_shot(first["dataset"])
    if score is not None and (rows["method"] == "zero_shot").any():
        _line(f"the paper has {score:.2f} % for ZS-CLIP on {first['dataset']} (its settings: results/paper)")


def _show_beyond(rows: pd.DataFrame) -> None:
    """What was asked beyond the paper's test: a line per method, means over clients and seeds; of curves their ends."""
    found = rows.set_index("method")[[name for name in rows if name.startswith("beyond.")]]
    if found.columns.empty:
        return
    ends = {name.rpartition(" ")[0] or name: name for name in found}  # the last point of each curve
    found = found[list(ends.values())]
    text = found.groupby(level=0, sort=False).mean().map(lambda value: "" if pd.isna(value) else f"{value:.1f}")
    text.columns = [name.removeprefix("beyond.").replace("_", " ") for name in text]
    text.index = [METHODS[name].title for name in text.index]
    show_frame(text, f"{rows['evaluate'].iloc[0]}: accuracy %")


def show_frame(data: pd.DataFrame, title: str) -> None:
    """A table of texts under a title, its index first."""
    table = Table("method", title=title, title_justify="left")
    for heading in data:
        table.add_column(heading, overflow="fold")
    for name, line in data.iterrows():
        table.add_row(str(name), *line)
    Console().print(table)


def show_sections(sections: Mapping[str, Mapping[str, Any]]) -> None:
    """Sections of names and values, aligned."""
    width = max(len(name) for section in sections.values() for name in section)
    for title, section in sections.items():
        typer.secho(title, bold=True)
        for name, value in section.items():
            _line(f"  {name:<{width}}  {value}")


def show_diagnoses(diagnoses: Sequence[Diagnosis], named: bool) -> None:
    """A line per data set, and below what is known and what has to be mended.

    Args:
        named: whether these sets were asked for: then their cards are shown. If not, sets that are neither there nor in
            the paper share a line.
    """
    others = [one.name for one in diagnoses if not (named or one.found or one.published)]
    diagnoses = [one for one in diagnoses if one.name not in others]
    table = Table("data set", "found", "state")
    for heading in ("classes", "train", "test", "ZS-CLIP in the paper"):
        table.add_column(heading, justify="right")
    for one in diagnoses:
        state = f"{len(one.problems)} problem{'s' * (len(one.problems) > 1)}" if one.problems else "fine"
        counts = [str(count) for count in (one.classes, one.train, one.test)] if one.found else ["", "", ""]
        score = "" if one.published is None else f"{one.published:.2f} %"
        table.add_row(one.name, "yes" if one.found else "no", state if one.found else "", *counts, score)
    Console().print(table)
    for one in diagnoses:
        _line(f"{one.name}: " + "\n    ".join(_details(one)))
        if named and one.card:
            show_sections({f"card of {one.card.title}": _card_lines(one.card)})
    if others:
        _line(f"not there: {', '.join(others)} (pfedmoap data NAME says what it is and where to get it)")
    if any(one.published and one.found for one in diagnoses):
        _line("zero-shot accuracy: pfedmoap run --dataset NAME --data-root DIR --method zero_shot --profile paper")


def _card_lines(card: Card) -> dict[str, str]:
    counts = {"classes": card.classes, "domains": card.domains, "training images": card.train,
              "test images": card.test, "images": card.images}  # fmt: skip
    lines = {"expected": ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)}
    lines |= {"licence": card.licence, "source": card.source, "citation": card.citation, "odd": card.odd}
    lines |= {f"layout {number}": layout for number, layout in enumerate(card.layout, start=1)}
    files = enumerate(card.checksums.items(), start=1)
    return lines | {f"MD5 {number}": f"{md5} {file}" for number, (file, md5) in files}


def _details(one: Diagnosis) -> list[str]:
    """What is known about a data set, and what has to be mended."""
    lines = [one.where]
    if one.found:
        lines.append(f"{one.names}; {one.files}; fingerprint {one.fingerprint}")
        lines += [f"features of {line}" for line in one.cached]
        lines += [f"a run has {one.suggested}"] if one.suggested else []
        lines += [f"problem: {problem}" for problem in one.problems[:MOST_PROBLEMS]]
    if len(one.problems) > MOST_PROBLEMS:
        lines.append(f"and {len(one.problems) - MOST_PROBLEMS} more problems (--json has them all)")
    return lines


def show_verdicts(verdicts: Sequence[Verdict], details: bool) -> None:
    """A line per claim, and how many there are of each verdict; with details what it says and what was found."""
    table = Table("claim", "verdict")
    table.add_column("points (95 % interval)", justify="right")
    table.add_column("p", justify="right")
    for one in verdicts:
        between = "" if one.low is None else f" ({one.low:.1f} to {one.high:.1f})"
        table.add_row(one.id, one.shown, one.measured + between, "" if one.p is None else f"{one.p:.2g}")
    Console().print(table)
    if details:
        for one in verdicts:
            _line(f"{one.id} ({one.by}, {one.source}): {one.says}\n    {one.words}")
            if one.minutes is not None:
                _line(f"    rests on {one.minutes:.0f} minutes of runs on {one.machine}")
    for by in dict.fromkeys(one.by for one in verdicts):
        counts = Counter(one.shown for one in verdicts if one.by == by)
        whose = "the paper's claims" if by == "paper" else "this kit's claims"
        _line(f"{whose}: {', '.join(f'{count} {word}' for word, count in counts.most_common())}")


def show_cells(cells: pd.DataFrame) -> None:
    """How many cells of a rerun are equal, within rounding and different; the farthest that are not equal."""
    counts = ", ".join(f"{count} {state}" for state, count in cells["state"].value_counts().items())
    _line(f"{len(cells)} cells against the rerun: {counts}")
    off = cells[cells["state"] != EQUAL].sort_values("difference", key=abs, ascending=False, kind="stable")
    if len(off):
        table = Table("table", "row", "column")
        for heading in ("here", "rerun", "difference", "rounding"):
            table.add_column(heading, justify="right")
        table.add_column("state")
        for one in off.head(MOST_CELLS).itertuples():
            table.add_row(one.table, one.method, one.column, f"{one.here:.2f}", f"{one.there:.2f}",
                          f"{one.difference:+.2f}", f"{one.tolerance:.2f}", one.state)
        Console().print(table)
        if len(off) > MOST_CELLS:
            _line(f"and {len(off) - MOST_CELLS} more (--json has them all)")


def show_cache(tables: Sequence[CachedTable], folder: Path) -> None:
    """A line per table of features, and their size together."""
    shown = Table("data set", "features of", "images")
    for heading in ("rows", "MB", "written"):
        shown.add_column(heading, justify="right")
    for one in tables:
        images = f"{one.split}, {one.kind}"
        size, written = f"{one.size / 1e6:,.1f}", f"{one.modified:%d %b %Y %H:%M}"
        shown.add_row(f"{one.dataset} {one.data[:6]}", one.backbone, images, str(one.rows), size, written)
    if tables:
        Console().print(shown)
    count = f"{len(tables)} table{'s' * (len(tables) != 1)}"
    _line(f"{folder}: {count}, {sum(one.size for one in tables) / 1e6:,.1f} MB")


def show_findings(found: Mapping[str, Sequence[Finding]]) -> None:
    """Of one audited implementation every check, of several what did not simply pass; and how many of each verdict."""
    for name, findings in found.items():
        shown = [one for one in findings if len(found) == 1 or one.verdict in VERDICTS[1:3]]
        if shown:
            table = Table("check", "verdict", "finding", title=Text(printable(name)), title_justify="left")
            for one in shown:
                table.add_row(one.check, one.verdict, one.words)
            Console().print(table)
        counts = Counter(one.verdict for one in findings)
        _line(f"{name}: {', '.join(f'{counts[verdict]} {verdict}' for verdict in VERDICTS if counts[verdict])}")
