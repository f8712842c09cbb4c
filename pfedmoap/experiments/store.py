"""Records on disk: one JSON file per finished run, named by what it ran, and a checkpoint per unfinished one.

Everything is written under a temporary name and moved into place, so that a kill leaves either the old file or the
new one. A lock per run, there as long as the run is worked on, lets any number of processes work on one folder without
doing a run twice.
"""

import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor

from pfedmoap.errors import UserError
from pfedmoap.experiments.experiment import Experiment
from pfedmoap.experiments.records import Record
from pfedmoap.experiments.soundness import believed, sealed
from pfedmoap.experiments.tensor_files import read_tensors, write_tensors
from pfedmoap.system import read_json, write_atomically

POLL_SECONDS = 0.05


class Store:
    """A folder of records.

    Args:
        folder: created if it does not exist.

    Raises:
        UserError: the folder cannot be written to.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._lock_of_locks = FileLock(self.folder / ".lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()  # nameless, so that a kill leaves nothing behind
        except OSError as error:
            raise UserError(f"Records cannot be written to {self.folder} ({error.strerror}): free some space, make it "
                            f"writable, or choose another folder with --results DIR.") from error

    def path(self, experiment: Experiment) -> Path:
        return self.folder / f"{experiment.label}.json"

    def get(self, experiment: Experiment) -> Record | None:
        """The experiment's record, or None if it has not been run (a file that cannot be its record counts as none)."""
        try:
            return believed(read_json(self.path(experiment)), experiment)
        except (OSError, ValueError):
            return None

    def put(self, experiment: Experiment, record: Record) -> None:
        """Stores a finished run and drops its checkpoint."""
        write_atomically(self.path(experiment), json.dumps(sealed(record), indent=1).encode())
        self._checkpoint_path(experiment).unlink(missing_ok=True)

    def drop(self, experiment: Experiment) -> None:
        """Forgets a run, finished or not."""
        self.path(experiment).unlink(missing_ok=True)
        self._checkpoint_path(experiment).unlink(missing_ok=True)

    @contextmanager
    def claim(self, experiment: Experiment, wait: bool = False) -> Iterator[bool]:
        """Holds the run for this process; yields False if another process has it (a killed process has nothing).

        What a killed process has left of it is removed: what it had begun to write, a checkpoint beside the record.
        """
        lock = FileLock(self.folder / f"{experiment.label}.lock")
        while not (claimed := self._acquire(lock)) and wait:
            time.sleep(POLL_SECONDS)
        if not claimed:
            yield False
            return
        try:
            for unfinished in self.folder.glob(f".{experiment.label}.*.part"):
                unfinished.unlink(missing_ok=True)
            if self.get(experiment) is not None:
                self._checkpoint_path(experiment).unlink(missing_ok=True)
            yield True
        finally:
            with self._lock_of_locks:
                with suppress(OSError):  # a system that does not remove what is open
                    os.unlink(lock.lock_file)
                lock.release()

    def _acquire(self, lock: FileLock) -> bool:
        """Takes a run's lock if it is free, under the folder's own: nobody opens a lock while another removes it."""
        with self._lock_of_locks:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                return False
        return True

    def tidy(self, experiment: Experiment) -> None:
        """Removes what a kill has left of a finished run, unless another process is at it."""
        if self._checkpoint_path(experiment).exists():
            with self.claim(experiment):
                pass

    def save_checkpoint(self, experiment: Experiment, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Stores an unfinished run's tensors and plain state, replacing its previous checkpoint."""
        write_tensors(self._checkpoint_path(experiment), tensors, "state", state)

    def load_checkpoint(self, experiment: Experiment) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What `save_checkpoint` stored, or None."""
        path = self._checkpoint_path(experiment)
        try:
            tensors, state, checked = read_tensors(path, "state")
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise UserError(f"The checkpoint {path} cannot be read ({error}): delete it to start again.") from error
        if not checked or not isinstance(state, dict):
            raise UserError(f"The checkpoint {path} has no checksum, as those of earlier versions: delete it to start "
                            f"again.")
        return tensors, state

    def _checkpoint_path(self, experiment: Experiment) -> Path:
        return self.folder / f"{experiment.label}.checkpoint.safetensors"
