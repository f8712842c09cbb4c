"""A connection to Ray: one that is started here, or a cluster's. Ray is an optional extra, imported when needed."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

from pfedmoap import cores
from pfedmoap.errors import UserError

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
