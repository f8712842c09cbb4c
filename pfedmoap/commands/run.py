"""`pfedmoap run`: one experiment or several, and their accuracies."""

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pfedmoap.commands.shared import (
    AsJson,
    CacheDir,
    DataRoot,
    Device,
    Jobs,
    SeedsPerBatch,
    place,
    say,
    suggest,
    warn_of_poor_match,
    what,
)
from pfedmoap.system import paths

if TYPE_CHECKING:
    from pfedmoap.experiments import Experiment, Place, Record, Store


def run(
    context: typer.Context,
    dataset: Annotated[str, what("Embedded, on disk (see `pfedmoap data`), your own folders, or hf:NAME.")] = "animals",
    method: Annotated[list[str], what("Method, several separated by commas, or all.")] = ["pfedmoap"],  # noqa: B006
    profile: Annotated[str, what("Settings to start from: smoke, quick, long or paper.")] = "quick",
    seed: Annotated[list[str], what("Seed, or several separated by commas.")] = ["1"],  # noqa: B006
    force: Annotated[bool, what("Run again what is already stored.", "--force")] = False,
    as_json: AsJson = False,
    data_root: DataRoot = None,
    results: Annotated[Path | None, place(r"Folder of the records. \[default: results/runs/records]")] = None,
    cache_dir: CacheDir = None,
    device: Device = "cpu",
    jobs: Jobs = 0,
    seeds_per_batch: SeedsPerBatch = 0,
) -> None:
    """Run one experiment or several, and show the accuracies.

    What is not set is the profile's, or what your own pictures suggest. A finished run is stored and never run twice;
    an interrupted one goes on where it stopped when the same is run again.

    Examples:

      pfedmoap run --dataset animals --method all --profile smoke

      pfedmoap run --dataset digits --lam 0.25 --seed 1,2,3 --json

      pfedmoap run --dataset caltech101 --data-root DIR --shots none

      pfedmoap run --dataset folders --data-root DIR

      pfedmoap run --dataset hf:NAME
    """
    from pfedmoap.commands import console
    from pfedmoap.commands.options import build_experiments
    from pfedmoap.experiments import Place, Store

    with redirect_stdout(sys.stderr):
        base = suggest(dataset, data_root, context.obj)
    experiments = build_experiments(dataset, split(method), split(seed), profile, context.obj, base)
    place = Place(data_root and str(data_root), cache_dir and str(cache_dir), device)
    store = Store(results or paths.results_dir("runs") / "records")
    with redirect_stdout(sys.stderr):
        records = _records(experiments, place, store, jobs, seeds_per_batch, force)
    if as_json:
        typer.echo(json.dumps(records[0] if len(records) == 1 else records, indent=1))
    else:
        console.show_records(records, profile)


def _records(
    experiments: Sequence["Experiment"], place: "Place", store: "Store", jobs: int, seeds_per_batch: int, force: bool
) -> list["Record"]:
    """Runs what the store lacks, after a look at weights and data that stops a mistake before anything is trained."""
    from pfedmoap.experiments import clip_of, run_all
    from pfedmoap.experiments import run as run_one

    first = experiments[0]
    clip_of(first, place)
    if force:
        for experiment in experiments:
            store.drop(experiment)
    stored = sum(store.get(experiment) is not None for experiment in experiments)
    if stored:
        say(f"{stored} of {len(experiments)} runs are already stored in {store.folder} (--force runs them again)")
    warn_of_poor_match(first, place, progress=stored < len(experiments))
    if len(experiments) > 1:
        run_all(experiments, place, store=store, jobs=jobs or None, seeds_per_batch=seeds_per_batch or None,
                progress=stored < len(experiments))
        records = [store.get(experiment) for experiment in experiments]
    else:
        records = [run_one(first, place, store=store)]
    for note in dict.fromkeys(note for record in records for note in record["data"]["notes"]):
        say(f"note: {note}")
    return records


def split(values: Sequence[str]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",") if part.strip()]
