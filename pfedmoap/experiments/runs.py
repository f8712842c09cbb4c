"""From an experiment to its record: one run, resumable, or many on all cores, or several as one batch on a GPU."""

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import torch
from tqdm.auto import tqdm

from pfedmoap.data import FOLDERS, ON_DISK, is_own
from pfedmoap.errors import PfedmoapError, UserError
from pfedmoap.experiments.datasets import load_dataset
from pfedmoap.experiments.examination import examine
from pfedmoap.experiments.experiment import Experiment
from pfedmoap.experiments.preparation import Place, clip_of, prepare
from pfedmoap.experiments.records import Record, frame, record_of, resume
from pfedmoap.experiments.seeds import rounds_of
from pfedmoap.experiments.store import Store
from pfedmoap.federation import Round
from pfedmoap.system import cores, in_processes, one_thread

WIDE = 256  # token width from which on several torch threads are faster than one
SEEDS_PER_BATCH = 8  # runs in a batch on a GPU; each holds its features and the text features of its pool there
MOST_SPATIAL = 3  # of methods that see every image position: up to 7.5 GiB each, and twice that while they are joined
_log = logging.getLogger(__name__)


def run(
    experiment: Experiment,
    place: Place = Place(),
    *,
    store: Store | None = None,
    progress: bool = True,
    on_round: Callable[[Round], None] | None = None,
) -> Record:
    """Runs one experiment, or returns its record from the store; an interrupted run goes on where it stopped.

    A narrow CLIP, as the embedded one, is computed on one torch thread, as everywhere here: that is faster, and gives
    the same numbers as every other run of it. A wide one is computed on the threads that torch has.

    Args:
        store: where the record goes, with a checkpoint after every round; None: nowhere.
        progress: a progress bar on standard error.
        on_round: called after every round.

    Returns:
        The record: config, per-round per-client accuracies (0 to 1), losses, bytes and seconds, versions, fingerprints.
    """
    if store is None:
        with _threads(experiment, place):
            return _run([experiment], place, None, progress, on_round)[0]
    with store.claim(experiment, wait=True):
        refuse_other_images([experiment], place, store)
        if (record := store.get(experiment)) is not None:
            return record
        with _threads(experiment, place):
            return _run([experiment], place, store, progress, on_round)[0]


def _threads(experiment: Experiment, place: Place) -> AbstractContextManager[None]:
    return one_thread() if clip_of(experiment, place).token_width < WIDE else nullcontext()


def run_all(
    experiments: Iterable[Experiment],
    place: Place = Place(),
    *,
    store: Store,
    jobs: int | None = None,
    seeds_per_batch: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Runs what the store lacks, one process per core with one torch thread each; on a GPU, seeds as one batch.

    Several torch threads on cores that are shared are far slower than one, so runs are what is done in parallel. A GPU
    is not busy with one small cohort. There runs that differ in nothing but their seed train as one (`seeds`), which
    changes results by rounding alone.

    Whatever is finished stays finished: a kill or Ctrl-C loses at most the rounds in progress. Several processes may
    call this on the same store at once.

    Args:
        jobs: processes; None: one per core, on a GPU one in all; 1: in this process, as for methods that were
            written in a notebook.
        seeds_per_batch: None: on a CPU, where more gain little, 1, on a GPU up to 8. Of methods that see every image
            position, whose features are large, 1 on a CPU and up to 3 on a GPU.

    Returns:
        One row per experiment, in their order (`frame`).

    Raises:
        PfedmoapError: a run failed; the others are done and stored all the same.
    """
    experiments = list(dict.fromkeys(experiments))
    refuse_other_images(experiments, place, store)
    missing = [experiment for experiment in experiments if store.get(experiment) is None]
    for finished in set(experiments) - set(missing):
        store.tidy(finished)
    if seeds_per_batch is None:
        seeds_per_batch = 1 if place.device == "cpu" else SEEDS_PER_BATCH
    if seeds_per_batch < 1:
        raise UserError(f"seeds_per_batch must be a whole number >= 1, not {seeds_per_batch}.")
    batches = [Batch(group, place, str(store.folder)) for group in in_batches(missing, seeds_per_batch, place)]
    jobs = min(jobs or (cores.count() if place.device == "cpu" else 1), max(len(batches), 1))
    if any(type(experiment.method).__module__ == "__main__" for experiment in missing):
        jobs = 1  # other processes cannot import a method that was written in a notebook
    _compute_features(missing, place, jobs, progress)
    title = f"{len(missing)} of {len(experiments)} runs, {jobs} process{'es' * (jobs > 1)} of one torch thread"
    title += f", up to {seeds_per_batch} seeds as one batch" * (len(batches) < len(missing))
    with tqdm(total=sum(run.rounds for run in missing), desc=title, unit="round", disable=not progress) as bar:
        failed = _run_batches(batches, jobs, bar)
    if failed:
        others = ", the others are done" * (len(failed) < len(missing))
        raise type(failed[0][1])(f"{len(failed)} of {len(missing)} runs failed{others}: {reasons(failed)}")
    return frame([store.get(experiment) for experiment in experiments])


def reasons(failed: Iterable[tuple[Experiment, PfedmoapError]]) -> str:
    """Why runs failed: every reason once, with the run that it concerns, or how many and one of them."""
    concerned: dict[str, list[Experiment]] = {}
    for experiment, error in failed:
        concerned.setdefault(str(error), []).append(experiment)
    return "; ".join(f"{runs[0].label}{f' and {len(runs) - 1} more' * (len(runs) > 1)}: {reason}"
                     for reason, runs in concerned.items())


def refuse_other_images(experiments: Sequence[Experiment], place: Place, store: Store) -> None:
    """Refuses to reuse the record of other images: folders of one name, and hence one record, may have changed."""
    fingerprints: dict[str, str] = {}
    for run in experiments:
        own = is_own(run.dataset) and (run.dataset != FOLDERS or place.data_root)
        if not own or (record := store.get(run)) is None:
            continue
        if run.dataset not in fingerprints:
            fingerprints[run.dataset] = load_dataset(run.dataset, place.data_root).fingerprint
        if record["data"]["fingerprint"] != fingerprints[run.dataset]:
            where = place.data_root if run.dataset == FOLDERS else run.dataset
            raise UserError(f"{store.folder} has this run for other images than those in {where}: choose "
                            f"another folder (--results DIR), or run it again in its place (--force).")


def _compute_features(experiments: Sequence[Experiment], place: Place, jobs: int, progress: bool) -> None:
    """Computes features before the runs, with a progress bar: of sets on disk one after the other, of embedded ones in
    as many processes as the runs will have.

    Errors are left to the runs, which report them.
    """
    settings = ("dataset", "seed", "clients", "partition", "alpha", "shots", "views", "test_images", "model", "weights",
                "precision", "protocol")
    different = {}
    for experiment in experiments:
        kind = experiment.method.spatial, experiment.method.remembers_images
        different[tuple(getattr(experiment, name) for name in settings) + kind] = experiment
    on_disk = {kind: run for kind, run in different.items() if is_own(run.dataset) or run.dataset in ON_DISK}
    for experiment in on_disk.values():
        with suppress(PfedmoapError):
            prepare(experiment, place, progress)
    embedded = [(run, place) for kind, run in different.items() if kind not in on_disk]
    if jobs > 1 and len(embedded) > 1:
        names = ", ".join(dict.fromkeys(run.dataset for run, _ in embedded))
        with tqdm(total=len(embedded), desc=f"image features of {names}", delay=1, disable=not progress) as bar:
            in_processes(_prepare, embedded, jobs, bar)


def _prepare(task: tuple[Experiment, Place], on_end: Callable[[], None]) -> None:
    with suppress(PfedmoapError):
        prepare(*task, progress=False)
    on_end()


@cores.one()
def _run(experiments, place, store, progress, on_round) -> list[Record]:
    """Runs one experiment, or as one batch several that differ only in their seed; each has its record's share."""
    started = time.perf_counter()
    prepared = [prepare(experiment, place, progress) for experiment in experiments]
    ready = time.perf_counter()
    for run in prepared:
        if store and (checkpoint := store.load_checkpoint(run.experiment)):
            resume(run, *checkpoint)
    federations = [run.federation for run in prepared]
    first, named = experiments[0], ", ".join(str(experiment.seed) for experiment in experiments)
    with tqdm(total=sum(run.rounds for run in experiments), initial=sum(len(run.history) for run in federations),
              desc=f"{first.method.title} on {first.dataset}, seed {named}", unit="round", disable=not progress) as bar:
        for index, result in rounds_of(federations):
            experiment = experiments[index]
            bar.set_postfix_str(f"accuracy {100 * result.accuracy:.1f} %", refresh=False)
            bar.update()
            if on_round:
                on_round(result)
            if store and result.number < experiment.rounds:
                tensors, state = federations[index].snapshot()
                store.save_checkpoint(experiment, tensors, state | prepared[index].identity)
    found = [examine(run, place, progress) for run in prepared]
    seeds = len(experiments)
    seconds = {"prepare": (ready - started) / seeds, "total": (time.perf_counter() - started) / seeds}
    # The same whether it was just run or read back.
    records = [json.loads(json.dumps(record_of(run, seconds, seeds, beyond)))
               for run, beyond in zip(prepared, found, strict=True)]
    if store:
        for experiment, record in zip(experiments, records, strict=True):
            store.put(experiment, record)
    return records


Failure = tuple[Experiment, PfedmoapError]


class Batch(NamedTuple):
    """Runs that differ in nothing but their seed and train as one; where they run, and the folder of their store."""

    experiments: tuple[Experiment, ...]
    place: Place
    folder: str


class Outcome(NamedTuple):
    """Of a batch: the runs that another process is at, and those that failed."""

    busy: tuple[Experiment, ...]
    failed: list[Failure]


def in_batches(experiments: Iterable[Experiment], most: int, place: Place) -> list[tuple[Experiment, ...]]:
    """Experiments that differ in nothing but their seed, up to so many in a batch.

    Of methods that see every image position, on a CPU each alone and elsewhere at most `MOST_SPATIAL`.
    """
    most_spatial = 1 if place.device == "cpu" else min(most, MOST_SPATIAL)
    alike: dict[Experiment, list[Experiment]] = {}
    for experiment in experiments:
        alike.setdefault(replace(experiment, seed=0), []).append(experiment)
    batches = []
    for kind, group in alike.items():
        size = most_spatial if kind.method.spatial else most
        batches += [tuple(group[at : at + size]) for at in range(0, len(group), size)]
    return batches


def _run_batches(batches: Sequence[Batch], jobs: int, bar: tqdm) -> list[Failure]:
    """Runs what no other process is working on, then waits for the rest."""
    failed = []
    for wait in (False, True):
        work = partial(_work, wait=wait)
        if jobs == 1:
            with one_thread():
                outcomes = [work(batch, bar.update) for batch in batches]
        else:
            outcomes = in_processes(work, batches, jobs, bar)
        failed += [failure for outcome in outcomes for failure in outcome.failed]
        batches = [batch._replace(experiments=outcome.busy)
                   for batch, outcome in zip(batches, outcomes, strict=True) if outcome.busy]
    return failed


def _work(batch: Batch, on_round: Callable[[], Any], wait: bool) -> Outcome:
    store = Store(batch.folder)
    with ExitStack() as claims:  # in an order that all processes keep to, so that no two wait for each other
        mine = {experiment for experiment in sorted(batch.experiments, key=lambda run: run.key)
                if claims.enter_context(store.claim(experiment, wait))}
        claimed = [run for run in batch.experiments if run in mine]
        try:
            refuse_other_images(claimed, batch.place, store)
            failed = _run_or_split(claimed, batch.place, store, lambda _: on_round())
        except UserError as error:
            failed = [(run, error) for run in claimed]
    return Outcome(tuple(run for run in batch.experiments if run not in mine), failed)


def _run_or_split(experiments: list[Experiment], place: Place, store: Store, on_round: Callable) -> list[Failure]:
    """Runs what is missing of a batch. If it fails, its runs go on one by one, so that only the bad one fails."""
    missing = [experiment for experiment in experiments if store.get(experiment) is None]
    if not missing:
        return []
    try:
        _run(missing, place, store, False, on_round)
        return []
    except Exception as error:
        if len(missing) == 1:
            if isinstance(error, PfedmoapError):
                return [(missing[0], type(error)(str(error)))]  # the error itself holds everything that the run held
            if isinstance(error, torch.OutOfMemoryError):
                return [(missing[0], PfedmoapError(f"the device has too little memory ({error}): use fewer --jobs, or "
                                                   f"--precision bf16"))]
            raise
        labels = ", ".join(experiment.label for experiment in missing)
        _log.warning("%s do not run as one batch, now each by itself: %s", labels, str(error))
    # After the except block, as the error holds the batch's tables, for which there may have been too little memory.
    failed, unknown = [], None
    for experiment in missing:
        try:
            failed += _run_or_split([experiment], place, store, on_round)
        except Exception as error:
            unknown = unknown or error
    if unknown:
        raise unknown
    return failed
