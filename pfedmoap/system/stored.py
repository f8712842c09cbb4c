"""Work whose results are JSON files: what is missing is computed, on all cores, and what is finished is kept."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from tqdm.auto import tqdm

from pfedmoap.system import cores
from pfedmoap.system.files import read_json, write_atomically
from pfedmoap.system.processes import in_processes, one_thread

Task = tuple[Path, Callable[..., Any], tuple]


def compute_missing(
    make: Callable[..., Any], wanted: Mapping[Path, tuple], *, jobs: int, unit: str, progress: bool = True
) -> dict[Path, Any]:
    """The content of all files, of which those that are not there, or damaged, are made first.

    Args:
        make: gives plain data, fit for JSON; a function of a module, as other processes call it.
        wanted: file -> the arguments of `make`.
        jobs: processes of one torch thread each; 1: in this process.
        unit: what one of them is called in the progress bar.
    """
    tasks = [(path, make, arguments) for path, arguments in wanted.items() if read(path) is None]
    jobs = min(jobs, max(len(tasks), 1))
    title = f"{len(tasks)} of {len(wanted)} {unit}s, {jobs} process{'es' * (jobs > 1)} of one torch thread"
    with tqdm(total=len(tasks), desc=title, unit=unit, disable=not progress) as bar:
        if jobs == 1:
            with one_thread():
                for task in tasks:
                    work(task, bar.update)
        else:
            in_processes(work, tasks, jobs, bar)
    return {path: read(path) for path in wanted}


@cores.one()
def work(task: Task, on_done: Callable[[], Any]) -> None:
    """Makes one file, unless another process has; that it is at it says the lock beside the file."""
    path, make, arguments = task
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if read(path) is None:
            write_atomically(path, json.dumps(make(*arguments)).encode())
    on_done()


def read(path: Path) -> Any:
    """A finished result; a damaged file counts as none."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None
