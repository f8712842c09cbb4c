"""What is left in a folder, as texts that two runs have in common to the last digit."""

import json
from pathlib import Path

# Fields that no two runs have in common; the checksum is over seconds too.
BY_CLOCK = {"seconds", "seconds_by_run", "modified", "sha256"}


def records(folder: Path, root: Path) -> dict[str, str]:
    """Every record in a folder."""
    return {f"record {path.name}": timeless(path.read_text(), root) for path in sorted(folder.glob("*.json"))}


def timeless(text: str, root: Path) -> str:
    """A JSON text without what the clock says and where the work's folder is."""
    def without(fields: dict) -> dict:
        return {name: value for name, value in fields.items() if name not in BY_CLOCK}

    return json.dumps(json.loads(text, object_hook=without), indent=1).replace(str(root), "FOLDER")


def features(folder: Path) -> dict[str, str]:
    """The files of a cache: rows and checksums as hexadecimal digits, notes as they are."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".f32", ".crc32"):
            found[f"features {path.name}"] = path.read_bytes().hex()
        elif path.suffix == ".json":
            found[f"note {path.name}"] = path.read_text()
    return found
