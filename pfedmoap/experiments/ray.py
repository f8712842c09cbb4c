"""Runs as Ray tasks, where one machine is not enough: a laptop, a box of GPUs, SLURM and Kubernetes are the same call.

A worker computes a whole run and sends its record back. This process alone writes records, so that workers need no
file system in common with it; they need the package, and data and weights under the same paths. Ray is an optional
extra, imported when needed.
"""

import os
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch
from tqdm.auto import tqdm

from pfedmoap.errors import PfedmoapError, UserError
from pfedmoap.experiments import runs
from pfedmoap.experiments.experiment import Experiment
from pfedmoap.experiments.preparation import Place
from pfedmoap.experiments.records import Record
from pfedmoap.experiments.store import Store
from pfedmoap.system import cores

IN_FLIGHT = 400  # runs: enough for an autoscaler to see demand; each holds a lock, and 1,024 open files are allowed
POLL_SECONDS = 1.0
CONNECT_SECONDS = 10
OBJECT_STORE_BYTES = 128 * 2**20  # records are small
NO_REPORTS = {"RAY_USAGE_STATS_ENABLED": "0"}
ALONE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's own switch, on every system: listen on the loopback only
    "RAY_agent_register_timeout_ms": "180000",  # on cores that are busy with other things
}


@dataclass(frozen=True)
class Cluster:
    """Where tasks run, and what each of them takes.

    Attributes:
        address: "local" starts Ray here, "auto" finds one that runs here, "HOST:PORT" or "ray://HOST:PORT" one
            elsewhere; empty: $RAY_ADDRESS, or else local.
        jobs: runs at the same time; 0: as many as there is room for.
        gpus_per_run: share of a GPU that a run takes, where runs are on GPUs.
        retries: how often a run is started again after its worker or machine has died.
    """

    address: str = ""
    jobs: int = 0
    gpus_per_run: float = 0.25
    retries: int = 3


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


@contextmanager
def connected(cluster: Cluster) -> Iterator[ModuleType]:
    """Ray, connected to the cluster; one that the process is connected to already stays so."""
    address = cluster.address or os.environ.get("RAY_ADDRESS") or "local"
    os.environ |= NO_REPORTS | (ALONE if address == "local" else {})  # read when Ray is imported
    try:
        import ray
    except ImportError as error:
        raise UserError("Ray is not installed: pip install 'pfedmoap[cluster]' (in a clone: .venv/bin/pip install -e "
                        "'.[cluster]'), or leave out --ray.") from error
    if ray.is_initialized():
        yield ray
        return
    _check(address)
    options = {"runtime_env": {"env_vars": {"OMP_NUM_THREADS": "1"}}, "log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        options |= {"num_cpus": cluster.jobs or cores.count(), "include_dashboard": False,
                    "object_store_memory": OBJECT_STORE_BYTES}
    try:
        ray.init(address, **options)
    except Exception as error:  # Ray raises many kinds, plain ones too
        raise UserError(f"Ray at {address!r} cannot be used: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check(address: str) -> None:
    """Refuses an address where nobody answers; Ray itself would try for minutes."""
    if address in ("local", "auto"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"There is no Ray at {address!r} ({error}): start one there with `ray start --head`, or give "
                        f"auto, HOST:PORT, ray://HOST:PORT, or no address for a Ray on this machine alone; names of "
                        f"notebooks come before --ray.") from error
