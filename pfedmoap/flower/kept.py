"""What a client keeps between rounds and never sends, on its own disk: its gate, its own prompt, its optimiser."""

import logging
from pathlib import Path
from typing import Any

from pfedmoap.experiments import read_tensors, write_tensors
from pfedmoap.server import Tensors
from pfedmoap.system import PRIVATE_FILE, private_folder

LAST = 3  # rounds

log = logging.getLogger(__name__)


class Kept:
    """A client's state after each of its last rounds, so that a round that is run again starts where it did before.

    A server that was killed in a round repeats it, and so do clients whose reply was lost. The folder is readable by
    its owner only.

    Args:
        folder: of this client and this experiment alone; made if need be.
    """

    def __init__(self, folder: Path):
        self.folder = private_folder(folder)

    def save(self, number: int, tensors: Tensors, state: dict[str, Any]) -> None:
        """The client's state after round `number`; what was there of this and later rounds is forgotten."""
        for later in [path for path in self._paths() if _number(path) > number]:
            later.unlink()
        write_tensors(self.folder / f"round-{number:05d}.safetensors", tensors, "state", state, PRIVATE_FILE)
        for old in self._paths()[:-LAST]:
            old.unlink()

    def load(self, before: int) -> tuple[Tensors, dict[str, Any]] | None:
        """The client's latest state before a round, or None if it has none; a damaged file is left out of account."""
        for path in reversed([path for path in self._paths() if _number(path) < before]):
            try:
                tensors, state, _ = read_tensors(path, "state")
                return tensors, state
            except ValueError as error:
                log.warning("%s is damaged and not used (%s)", path, error)
        return None

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("round-*.safetensors"), key=_number)


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("round-"))
