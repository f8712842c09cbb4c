"""What the command line shows of notebooks: a line for each that is executed, and what became of them.

Nothing here or in `batch` imports torch: the notebooks' kernels do, and a second import would only cost seconds.
"""

import os
import time
from collections.abc import Generator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from pfedmoap.batch import Job, Outcome
from pfedmoap.commands.shared import say


class Watch:
    """Lines on standard error: of a terminal, one that lives for each notebook; else one at its start and its end."""

    def __init__(self, jobs: Sequence[Job]):
        self.runs, self.many, self.started = _Runs(jobs), len(jobs), time.monotonic()
        console = Console(stderr=True)
        columns = SpinnerColumn(finished_text="-"), TextColumn("{task.description}"), TimeElapsedColumn(), self.runs
        self.progress = Progress(*columns, console=console) if console.is_terminal else None
        self.tasks: dict[Job, Any] = {}

    def start(self, job: Job) -> None:
        """A notebook is going to be executed."""
        if self.progress:
            self.tasks[job.notebook] = self.progress.add_task(job.name, total=1)
        else:
            say(f"{job.name}: started")

    def all(self, outcomes: Generator[Outcome]) -> list[Outcome]:
        """Waits for the outcomes and shows each; leaves no kernel behind when it is interrupted."""
        with self.progress or nullcontext(), closing(outcomes):
            seen = [self._ended(outcome) for outcome in outcomes]
        executed = sum(not outcome.skipped for outcome in seen)
        if self.many > 1 and executed:
            took = _duration(time.monotonic() - self.started)
            say(f"{executed} of {self.many} notebooks were executed in {took}, {self.runs.new()}")
        return seen

    def _ended(self, outcome: Outcome) -> Outcome:
        text = outcome.job.name
        if outcome.skipped:
            text += ": unchanged, skipped (--force executes it again)"
        else:
            how = "failed" if outcome.failure else "done"
            text += f": {how} in {_duration(outcome.seconds)}" + ", its kernel died once" * outcome.restarted
        if outcome.job.notebook in self.tasks:
            self.progress.update(self.tasks[outcome.job.notebook], description=text, completed=1, visible=False)
            self.progress.console.print(text, highlight=False, soft_wrap=True)
        else:
            say(text)
        return outcome


class _Runs(ProgressColumn):
    """How many records have come into the folders of records."""

    max_refresh = 1.0

    def __init__(self, jobs: Sequence[Job]):
        super().__init__()
        self.folders = {job.folders[0] / "records" for job in jobs}
        self.before = self._count()

    def _count(self) -> int:
        return sum(1 for folder in self.folders for _ in folder.glob("*.json"))

    def new(self) -> str:
        number = self._count() - self.before
        return f"{number} new run{'s' * (number != 1)}"

    def render(self, task: Any) -> Text:
        return Text(self.new())


def show_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Where the tables and figures are, and what failed."""
    for outcome in outcomes:
        for path in outcome.written:
            typer.echo(_short(path))
    failed = [outcome for outcome in outcomes if outcome.failure]
    if failed:
        say(f"error: {len(failed)} of {len(outcomes)} notebooks failed.")
    for outcome in failed:
        text = outcome.failure.replace("\n", "\n    ")
        say(f"  {outcome.job.name}, {text}\n    what it did: {_short(outcome.job.output)}")


def _duration(seconds: float) -> str:
    """Such as "4.2 s", "5 min 7 s" or "1 h 2 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _short(path: Path) -> str:
    """Relative to where the user is, if that is shorter."""
    return min(os.path.relpath(path), str(path), key=len)
