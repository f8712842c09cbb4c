"""Runs as Ray tasks, where one machine is not enough: a laptop, a box of GPUs, SLURM and Kubernetes are the same call.

A worker computes a whole run and sends its record back. This process alone writes records, so that workers need no
file system in common with it; they need the package, and data and weights under the same paths.
"""

import os
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from tqdm.auto import tqdm

from pfedmoap import paper, runs
from pfedmoap.availability import reachable
from pfedmoap.batch import Job
from pfedmoap.batch.jobs import default_parameters
from pfedmoap.batch.unchanged import is_unchanged
from pfedmoap.cluster import Cluster, connected
from pfedmoap.errors import PfedmoapError, UserError
from pfedmoap.experiment import Experiment
from pfedmoap.preparation import Place
from pfedmoap.store import Record, Store

IN_FLIGHT = 400  # runs: enough for an autoscaler to see demand; each holds a lock, and 1,024 open files are allowed
POLL_SECONDS = 1.0


def run_grids(notebooks: Sequence[Job], cluster: Cluster, *, force: bool = False) -> dict[str, str]:
    """Runs what the stores lack of the grids behind notebooks, before these are executed and find everything done.

    Notebooks without a grid, and those that are not going to be executed, are left alone; so is what their grids
    cannot run here, which they report themselves.

    Args:
        force: notebooks that did not change are going to be executed too.

    Returns:
        Name of a notebook -> which of its runs failed, and why.
    """
    wanted: dict[tuple[Place, Path], dict[str, list[Experiment]]] = {}
    for job in notebooks:
        if force or not is_unchanged(job):
            values = default_parameters(job.notebook) | job.parameters
            grid = _experiments(job.notebook.stem.partition("_")[0], values)
            if grid:
                wanted.setdefault((_place(values), job.folders[0] / "records"), {})[job.name] = grid
    failures = {}
    for (place, folder), grids in wanted.items():
        failed = dict(run_on_ray([run for grid in grids.values() for run in grid], place, Store(folder), cluster))
        for name, grid in grids.items():
            if lines := [f"{run.label}: {failed[run]}" for run in grid if run in failed]:
                failures[name] = "; ".join(lines)
    return failures


def _experiments(name: str, values: dict[str, Any]) -> list[Experiment]:
    if name in paper.GRIDS:
        with suppress(UserError):
            chosen = paper.selection(*(values[item] for item in ("seeds", "methods", "settings", "weights")))
            return list(reachable(paper.GRIDS[name](values["profile"], **chosen), _place(values)))
    return []


def _place(values: dict[str, Any]) -> Place:
    """A worker has a working folder of its own."""
    data_root, cache = (values[name] and os.path.abspath(values[name]) for name in ("data_root", "cache"))
    return Place(data_root or None, cache or None, values["device"])


def run_on_ray(
    experiments: Sequence[Experiment],
    place: Place,
    store: Store,
    cluster: Cluster = Cluster(),
    *,
    progress: bool = True,
) -> list[runs.Failure]:
    """Runs what the store lacks as Ray tasks.

    A run whose worker dies is started again from its first round; a driver that dies loses what its workers were at.
    Each run in flight is claimed, so that no other process on the same store does it too.

    Returns:
        The runs that failed, each with its error; all others are in the store.

    Raises:
        UserError: Ray is not installed, or not to be reached.
    """
    experiments = list(dict.fromkeys(experiments))
    runs.refuse_other_images(experiments, place, store)
    todo = deque(experiment for experiment in experiments if store.get(experiment) is None)
    if not todo:
        return []
    failed = []
    with connected(cluster) as ray, ExitStack() as at_end:
        task = ray.remote(_work).options(
            num_cpus=1, num_gpus=cluster.gpus_per_run if place.device != "cpu" else 0, max_retries=cluster.retries)
        title = f"{len(todo)} of {len(experiments)} runs on Ray"
        bar = at_end.enter_context(tqdm(total=len(todo), desc=title, unit="run", disable=not progress))
        running: dict[Any, tuple[Experiment, ExitStack]] = {}
        at_end.callback(_give_up, ray, running)
        while todo or running:
            before = len(todo) + len(running)
            _start(task, todo, running, place, store, cluster.jobs or IN_FLIGHT)
            for reference in _finished(ray, list(running), POLL_SECONDS if todo else None):
                experiment, claim = running.pop(reference)
                with claim:
                    result = _result(ray, reference, experiment, cluster)
                    if isinstance(result, PfedmoapError):
                        failed.append((experiment, result))
                    else:
                        store.put(experiment, result)
            bar.update(before - len(todo) - len(running))
    return failed


def _start(task: Any, todo: deque, running: dict, place: Place, store: Store, most: int) -> None:
    """Starts tasks for runs that no other process is at and none has finished; the others stay, or are done."""
    for _ in range(len(todo)):
        if len(running) >= most:
            return
        experiment = todo.popleft()
        with ExitStack() as stack:
            if not stack.enter_context(store.claim(experiment)):
                todo.append(experiment)
            elif store.get(experiment) is None:
                running[task.remote(experiment, place)] = experiment, stack.pop_all()


def _finished(ray: ModuleType, references: list, timeout: float | None) -> list:
    if not references:
        time.sleep(timeout or 0)
        return []
    return ray.wait(references, timeout=timeout)[0]


def _work(experiment: Experiment, place: Place) -> Record | PfedmoapError:
    """What a worker does; an error that a sentence explains is a result, of which Ray makes no traceback."""
    torch.set_num_threads(1)
    device = "cuda" if place.device.startswith("cuda") else place.device  # Ray says which one
    try:
        return runs.run(experiment, replace(place, device=device), progress=False)
    except PfedmoapError as error:
        return error


def _result(ray: ModuleType, reference: Any, experiment: Experiment, cluster: Cluster) -> Record | PfedmoapError:
    try:
        result = ray.get(reference)
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        return PfedmoapError(f"its worker died {1 + cluster.retries} times ({type(error).__name__}), perhaps for lack "
                             f"of memory; run the same again, with fewer --jobs or more --gpus-per-run")
    if not isinstance(result, PfedmoapError) and result["key"] != experiment.key:
        return UserError("its worker has another version of pfedmoap, or other weights under the same path")
    return result


def _give_up(ray: ModuleType, running: dict) -> None:
    for reference, (_, claim) in running.items():
        ray.cancel(reference, force=True)
        claim.close()
