"""`pfedmoap reproduce --ray`: the runs behind notebooks, on Ray, before these are executed."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pfedmoap import experiments
from pfedmoap.batch import Job, default_parameters, is_unchanged
from pfedmoap.errors import UserError
from pfedmoap.experiments import Cluster, Experiment, Place, Store, reachable, reasons, run_on_ray


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
            if why := reasons((run, failed[run]) for run in grid if run in failed):
                failures[name] = why
    return failures


def _experiments(name: str, values: dict[str, Any]) -> list[Experiment]:
    if name in experiments.GRIDS:
        with suppress(UserError):
            chosen = experiments.selection(*(values[item] for item in ("seeds", "methods", "settings", "weights")))
            return list(reachable(experiments.GRIDS[name](values["profile"], **chosen), _place(values)))
    return []


def _place(values: dict[str, Any]) -> Place:
    """A worker has a working folder of its own."""
    data_root, cache = (values[name] and os.path.abspath(values[name]) for name in ("data_root", "cache"))
    return Place(data_root or None, cache or None, values["device"])
