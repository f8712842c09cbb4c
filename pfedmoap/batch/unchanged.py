"""What is known of a finished notebook: the hash of all it was made from, and its files, beside its executed copy."""

import hashlib
import json
import os
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path

from pfedmoap.batch.jobs import Job
from pfedmoap.system import paths, write_atomically

HOW_FAST = ("jobs",)  # parameters that change no result


def is_unchanged(job: Job) -> bool:
    """Whether the notebook was executed to its end with the same inputs, and nothing that it wrote has changed.

    Inputs are the notebook, its parameters, the package with its weights, and the published numbers. Of images on disk
    only the path of their folder counts.
    """
    try:
        known = json.loads(_file(job).read_text())
        return known["inputs"] == _inputs(job) and known["files"] == _hashes(job, map(Path, known["files"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def remember(job: Job, written: Iterable[Path]) -> None:
    """Notes that the notebook was executed to its end and wrote these products.

    Raises:
        UserError: the disk is full or the folder read-only.
    """
    known = {"inputs": _inputs(job), "files": _hashes(job, [job.output, *written])}
    write_atomically(_file(job), json.dumps(known, indent=1).encode())


def forget(job: Job) -> None:
    """Before the notebook is executed again."""
    _file(job).unlink(missing_ok=True)


def _file(job: Job) -> Path:
    return job.output.with_suffix(".json")


def _hashes(job: Job, files: Iterable[Path]) -> dict[str, str]:
    """By path relative to the executed copy, which is how the folder of results can be moved."""
    folder = job.output.parent
    return {os.path.relpath(folder / file, folder): _hash((folder / file).read_bytes()) for file in files}


def _inputs(job: Job) -> str:
    parameters = {name: value for name, value in job.parameters.items() if name not in HOW_FAST}
    return _hash(job.notebook.read_bytes(), json.dumps(parameters, sort_keys=True).encode(), _package().encode())


@cache
def _package() -> str:
    files = sorted(path for folder in (paths.PACKAGE, paths.PUBLISHED) for path in folder.rglob("*")
                   if path.is_file() and path.suffix != ".pyc")
    return _hash(version("pfedmoap").encode(), *(path.read_bytes() for path in files))


def _hash(*contents: bytes) -> str:
    digests = (hashlib.sha256(content).digest() for content in contents)
    return hashlib.sha256(b"".join(digests)).hexdigest()
