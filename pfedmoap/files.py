"""Files that are there as a whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from pfedmoap.errors import UserError


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a whole file or nothing; its folder is made if need be.

    Raises:
        UserError: the disk is full or the folder read-only.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise UserError(f"{path} cannot be written ({error.strerror}): free some space or choose another folder; "
                        f"everything finished before is kept.") from error
