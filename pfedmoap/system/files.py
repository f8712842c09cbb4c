"""Files that are there as a whole or not at all."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from pfedmoap.errors import UserError

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600


def private_folder(path: Path) -> Path:
    """The folder, made if need be, that none but its owner may look into."""
    path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    path.chmod(PRIVATE_FOLDER)
    return path


def write_atomically(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Writes a whole file or nothing; its folder is made if need be.

    Args:
        mode: who may read and write it, before the umask.

    Raises:
        UserError: the disk is full or the folder read-only.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise UserError(f"{path} cannot be written ({error.strerror}): free some space or choose another folder; "
                        f"everything finished before is kept.") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is no file, or no JSON: damaged, nested too deeply, with numbers of thousands of digits.
    """
    if not path.exists() and not path.is_symlink():
        raise FileNotFoundError(path)
    if not path.is_file():  # a pipe would never end
        raise ValueError("it is no file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
