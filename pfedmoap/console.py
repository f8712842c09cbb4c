"""What the command line shows: tables on standard output, progress and complaints on standard error."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from pfedmoap.batch import Job, Outcome
from pfedmoap.methods import METHODS
from pfedmoap.runs import frame
from pfedmoap.store import Record


def show_records(records: Sequence[Record], profile: str) -> None:
    """One line per method: accuracy (mean and standard deviation over seeds), its worst client, seconds."""
    rows = frame(records)
    first = rows.iloc[0]
    seeds = ", ".join(map(str, rows["seed"].unique()))
    typer.echo(f"{first['dataset']}, {first['partition']}, {first['clients']} clients, {profile} profile, seed {seeds}")
    table = Table("method")
    for heading in ("accuracy %", "worst client %", "seconds"):
        table.add_column(heading, justify="right")
    for name, own in rows.groupby("method", sort=False):
        accuracy, worst = own["accuracy"], own["worst_client"]
        spread = f" ± {accuracy.std(ddof=0):.2f}" if len(own) > 1 else ""
        seconds = f"{own['seconds'].sum():.1f}"
        table.add_row(METHODS[name].title, f"{accuracy.mean():.2f}{spread}", f"{worst.mean():.2f}", seconds)
    Console().print(table)
    if len(rows) > len(rows["method"].unique()):
        typer.echo("± is the population standard deviation over the seeds; seconds are their sum")


def show_sections(sections: Mapping[str, Mapping[str, Any]]) -> None:
    """Sections of names and values, aligned."""
    width = max(len(name) for section in sections.values() for name in section)
    for title, section in sections.items():
        typer.secho(title, bold=True)
        for name, value in section.items():
            typer.echo(f"  {name:<{width}}  {value}")


def show_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Where the tables and figures are, and what failed."""
    for outcome in outcomes:
        for path in outcome.written:
            typer.echo(_short(path))
    failed = [outcome for outcome in outcomes if outcome.failure]
    if failed:
        typer.echo(f"error: {len(failed)} of {len(outcomes)} notebooks failed.", err=True)
    for outcome in failed:
        text = outcome.failure.replace("\n", "\n    ")
        typer.echo(f"  {outcome.job.name}, {text}\n    what it did: {_short(outcome.job.output)}", err=True)


@contextmanager
def watching(job: Job) -> Iterator[None]:
    """A line on standard error while a notebook is executed: its name, time, and the runs that it has finished."""
    columns = SpinnerColumn(finished_text="-"), TextColumn("{task.description}"), TimeElapsedColumn(), _NewRuns(job)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(job.name, total=1)
        yield
        progress.update(task, completed=1)


class _NewRuns(ProgressColumn):
    """How many records have come into the folder of records."""

    max_refresh = 1.0

    def __init__(self, job: Job):
        super().__init__()
        self.folder = job.folders[0] / "records"
        self.before = self._count()

    def _count(self) -> int:
        return sum(1 for _ in self.folder.glob("*.json"))

    def render(self, task: Any) -> Text:
        return Text(f"{self._count() - self.before} new runs")


def _short(path: Path) -> str:
    """Relative to where the user is, if that is shorter."""
    return min(os.path.relpath(path), str(path), key=len)
