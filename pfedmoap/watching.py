"""What the command line shows of notebooks: a line while one is executed, and what became of them.

Nothing here or in `batch` imports torch: the notebooks' kernels do, and a second import would only cost seconds.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from pfedmoap.batch import Job, Outcome


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
