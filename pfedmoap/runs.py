"""From an experiment to its record: one run, resumable, or many on all cores."""

import json
import multiprocessing
import platform
import queue
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from pfedmoap import cores
from pfedmoap.data import catalog, folders
from pfedmoap.errors import PfedmoapError, UserError
from pfedmoap.experiment import Experiment
from pfedmoap.federation import Round
from pfedmoap.preparation import Place, Prepared, prepare
from pfedmoap.protocol import Protocol
from pfedmoap.server import Tensors
from pfedmoap.store import Record, Store
from pfedmoap.workers import end_with_parent, one_thread

PACKAGES = ("torch", "open_clip_torch", "torchvision", "numpy", "pfedmoap")


def run(
    experiment: Experiment,
    place: Place = Place(),
    *,
    store: Store | None = None,
    progress: bool = True,
    on_round: Callable[[Round], None] | None = None,
) -> Record:
    """Runs one experiment, or returns its record from the store; an interrupted run goes on where it stopped.

    Args:
        store: where the record goes, with a checkpoint after every round; None: nowhere.
        progress: a progress bar on standard error.
        on_round: called after every round.

    Returns:
        The record: config, per-round per-client accuracies (0 to 1), losses, bytes and seconds, versions, fingerprints.
    """
    if store is None:
        return _run(experiment, place, None, progress, on_round)
    with store.claim(experiment, wait=True):
        refuse_other_images([experiment], place, store)
        return store.get(experiment) or _run(experiment, place, store, progress, on_round)


def run_all(
    experiments: Iterable[Experiment],
    place: Place = Place(),
    *,
    store: Store,
    jobs: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Runs what the store lacks, one process per core with one torch thread each.

    Several torch threads on cores that are shared are far slower than one, so runs are what is done in parallel.
    Whatever is finished stays finished: a kill or Ctrl-C loses at most the rounds in progress. Several processes may
    call this on the same store at once.

    Args:
        jobs: processes; None: one per core, on a GPU one in all; 1: in this process, as for methods that were
            written in a notebook.

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
    jobs = min(jobs or (cores.count() if place.device == "cpu" else 1), max(len(missing), 1))
    if any(type(experiment.method).__module__ == "__main__" for experiment in missing):
        jobs = 1  # other processes cannot import a method that was written in a notebook
    _compute_features(missing, place, progress)
    title = f"{len(missing)} of {len(experiments)} runs, {jobs} process{'es' * (jobs > 1)} of one torch thread"
    with tqdm(total=sum(item.rounds for item in missing), desc=title, unit="round", disable=not progress) as bar:
        tasks = [(experiment, place, str(store.folder)) for experiment in missing]
        failed = _in_turn(tasks, bar) if jobs == 1 else _in_processes(tasks, jobs, bar)
    if failed:
        lines = "; ".join(f"{experiment.label}: {error}" for experiment, error in failed)
        raise type(failed[0][1])(f"{len(failed)} of {len(missing)} runs failed, the others are done: {lines}")
    return frame([store.get(experiment) for experiment in experiments])


def refuse_other_images(experiments: Sequence[Experiment], place: Place, store: Store) -> None:
    """Your own folders may change, and others be put in their place, under the same name and hence the same record."""
    records = [record for item in experiments if item.dataset == folders.NAME and (record := store.get(item))]
    if records and place.data_root:
        imageset = catalog.load(folders.NAME, place.data_root)
        for record in records:
            if record["data"]["fingerprint"] != imageset.fingerprint:
                raise UserError(f"{store.folder} has this run for other images than those in {place.data_root}: choose "
                                f"another folder (--results DIR), or run it again in its place (--force).")


def _compute_features(experiments: Sequence[Experiment], place: Place, progress: bool) -> None:
    """Fills the cache with the features of sets on disk, which can take minutes, before the runs: with a progress bar.

    What goes wrong here is left to the runs that need it to report.
    """
    settings = ("dataset", "seed", "clients", "partition", "alpha", "shots", "views", "model", "weights", "precision",
                "protocol")
    different = {}
    for experiment in experiments:
        if experiment.dataset in (*catalog.ON_DISK, folders.NAME):
            kind = experiment.method.spatial, experiment.method.remembers_images
            different[tuple(getattr(experiment, name) for name in settings) + kind] = experiment
    for experiment in different.values():
        with suppress(PfedmoapError):
            prepare(experiment, place, progress)


def frame(records: Sequence[Record]) -> pd.DataFrame:
    """One row per record: the experiment's settings, the method's as `method.<setting>`, and the results in percent."""
    rows = []
    for record in records:
        settings = dict(record["experiment"])
        method = settings.pop("method")
        settings["protocol"] = str(Protocol(**settings.get("protocol", {})))
        row = settings | {"method": method["name"]} | {f"method.{k}": v for k, v in method.items() if k != "name"}
        last = np.array(record["rounds"][-1]["accuracies"], dtype=float)  # None: a client that was not reached
        row |= {"accuracy": 100 * record["accuracy"], "accuracy_last5": 100 * record["accuracy_last5"],
                "worst_client": 100 * np.nanmin(last), "seconds": record["seconds"]["total"], "key": record["key"]}
        rows.append(row)
    return pd.DataFrame(rows)


@cores.one()
def _run(experiment, place, store, progress, on_round) -> Record:
    started = time.perf_counter()
    prepared = prepare(experiment, place, progress)
    ready = time.perf_counter()
    federation = prepared.federation
    if store and (checkpoint := store.load_checkpoint(experiment)):
        resume(prepared, *checkpoint)
    title = f"{experiment.method.title} on {experiment.dataset}, seed {experiment.seed}"
    with tqdm(total=experiment.rounds, initial=len(federation.history), desc=title, unit="round",
              disable=not progress) as bar:
        for result in federation.rounds():
            bar.set_postfix_str(f"accuracy {100 * result.accuracy:.1f} %", refresh=False)
            bar.update()
            if on_round:
                on_round(result)
            if store and result.number < experiment.rounds:
                tensors, state = federation.snapshot()
                store.save_checkpoint(experiment, tensors, state | prepared.identity)
    seconds = {"prepare": ready - started, "total": time.perf_counter() - started}
    record = json.loads(json.dumps(record_of(prepared, seconds)))  # the same whether it was just run or read back
    if store:
        store.put(experiment, record)
    return record


def resume(prepared: Prepared, tensors: Tensors, state: dict[str, Any]) -> None:
    """Goes on from a checkpoint.

    Raises:
        UserError: it belongs to another experiment, data set or CLIP.
    """
    for name, value in prepared.identity.items():
        if state.get(name) != value:
            raise UserError(f"The checkpoint of {prepared.experiment.label} belongs to another experiment, data set or "
                            f"CLIP (its {name} is {state.get(name)}, not {value}): delete it, or use another --results "
                            f"folder.")
    prepared.federation.restore(tensors, state)


def record_of(prepared: Prepared, seconds: dict[str, float]) -> Record:
    """What is stored of a run: what `run` returns."""
    federation, imageset = prepared.federation, prepared.imageset
    means = [entry.accuracy for entry in federation.history]
    return {
        "key": prepared.experiment.key,
        "experiment": prepared.experiment.to_dict(),
        "accuracy": means[-1],
        "accuracy_last5": float(np.mean(means[-5:])),
        "rounds": [asdict(entry) | {"accuracy": entry.accuracy} for entry in federation.history],
        "seconds": seconds,
        "data": {"fingerprint": imageset.fingerprint, "source": imageset.source,
                 "notes": list(prepared.partition.notes), "classes": len(imageset.class_names),
                 "train_images": [len(own) for own in prepared.partition.train],
                 "test_images": [len(own) for own in prepared.partition.test]},
        "clip": {"name": prepared.clip.name, "weights": prepared.clip.weights,
                 "fingerprint": prepared.clip.fingerprint, "device": str(prepared.clip.device)},
        "machine": _machine(prepared.clip.device),
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
    }


def _machine(device: torch.device) -> str:
    """Such as "x86_64, 16 cores, NVIDIA H100"; no name that a person gave it."""
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return f"{platform.machine()}, {cores.count()} cores{gpu}"


Task = tuple[Experiment, Place, str]
Failure = tuple[Experiment, PfedmoapError]


def _in_turn(tasks: Sequence[Task], bar: tqdm) -> list[Failure]:
    failed = []
    with one_thread():
        for experiment, place, folder in tasks:
            try:
                run(experiment, place, store=Store(folder), progress=False, on_round=lambda _: bar.update())
            except PfedmoapError as error:
                failed.append((experiment, error))
    return failed


def _in_processes(tasks: Sequence[Task], jobs: int, bar: tqdm) -> list[Failure]:
    """Runs the tasks in worker processes: first those that no other process has, then waits for the rest."""
    start = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    processes = multiprocessing.get_context(start)
    processes.set_forkserver_preload([__name__])
    finished_rounds = processes.Queue()
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(jobs, processes, _start_worker, (finished_rounds,))
    failed = []
    try:
        for wait in (False, True):
            futures = {executor.submit(_work, *task, wait): task for task in tasks}
            _watch(futures, finished_rounds, bar)
            failed += [(task[0], future.exception()) for future, task in futures.items() if future.exception()]
            if broken := next((error for _, error in failed if not isinstance(error, PfedmoapError)), None):
                raise broken
            tasks = [task for future, task in futures.items() if not future.exception() and not future.result()]
    except BrokenProcessPool as error:
        raise PfedmoapError("A worker process was killed, perhaps for lack of memory; what is finished is kept. Run "
                            "the same again, with fewer --jobs if memory is short.") from error
    except BaseException:  # Ctrl-C among others: nobody waits for the runs in progress
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)  # else its thread complains when the interpreter exits
    return failed


def _watch(futures: dict[Future, Task], finished_rounds, bar: tqdm) -> None:
    while True:
        done = all(future.done() for future in futures)
        try:
            while True:
                bar.update(finished_rounds.get(timeout=0 if done else 0.1))
        except queue.Empty:
            if done:
                return


def _start_worker(finished_rounds) -> None:
    global _finished_rounds  # a worker process's own, set once at its start
    _finished_rounds = finished_rounds
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    end_with_parent()
    torch.set_num_threads(1)


def _work(experiment: Experiment, place: Place, folder: str, wait: bool) -> bool:
    """Runs one experiment in a worker; False if another process is at it and `wait` is not set."""
    store = Store(folder)
    with store.claim(experiment, wait) as mine:
        if mine and store.get(experiment) is None:
            _run(experiment, place, store, False, lambda _: _finished_rounds.put(1))
        return mine
