"""A folder that can be archived: a profile's tables, figures and page, described as an RO-Crate.

RO-Crate 1.1 is a JSON-LD file beside the data. It says who made them, with which command, on which machine, and gives
every file's size and SHA-256. https://www.researchobject.org/ro-crate/
"""

import hashlib
import json
import mimetypes
import shutil
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

from pfedmoap import __version__
from pfedmoap.errors import UserError
from pfedmoap.reports.page import Entry, build, collect
from pfedmoap.system import write_atomically

METADATA = "ro-crate-metadata.json"
PAPER, KIT, MAKERS, LICENCE = "https://arxiv.org/abs/2410.10114", "#pfedmoap", "#developers", "https://spdx.org/licenses/MIT"
AUTHORS = ("Jun Luo", "Chen Chen", "Shandong Wu")
TITLE = "Mixture of Experts Made Personalized: Federated Prompt Learning for Vision-Language Models"
TYPES = {".md": "text/markdown", ".tex": "application/x-tex"}  # which not every system knows


def write_crate(profile: str, results: Path, figures: Path, folder: Path) -> Path:
    """Copies a profile's tables and figures into a folder, builds the page there, and describes all of them.

    Records and executed notebooks, which lie in folders of their own below the tables, are left out.

    Args:
        folder: it must be new, empty, or an earlier crate, which is replaced.

    Returns:
        The file of metadata.

    Raises:
        UserError: there is no table to describe, or the folder holds something else.
    """
    entries = [entry for entry in collect(profile, results, figures) if entry.facts]
    if not entries:
        raise UserError(f"{results} has no tables: write them with pfedmoap reproduce --profile {profile}")
    _clear(folder)
    files = [_copied(path, folder / "results") for path in _files(results) if path.name != "report.html"]
    files += [_copied(path, folder / "figures") for path in _files(figures)]
    files += [folder / "report.html"]
    write_atomically(files[-1], build(profile, results, figures).encode())
    graph = [_metadata(), _root(profile, entries, files, folder), *_context(entries),
             *(_action(entry, files, folder) for entry in entries), *(_file(path, folder) for path in files)]
    crate = {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph}
    write_atomically(folder / METADATA, json.dumps(crate, indent=1, ensure_ascii=False).encode())
    return folder / METADATA


def _clear(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / METADATA).is_file():
            raise UserError(f"{folder} holds something else than a crate: name a new or an empty folder")
        shutil.rmtree(folder)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[!.]*") if path.is_file())


def _copied(path: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(path, folder))


# --- the entities


def _ids(names: Iterable[str]) -> list[dict[str, str]]:
    return [{"@id": name} for name in names]


def _metadata() -> dict[str, Any]:
    return {"@id": METADATA, "@type": "CreativeWork", "about": {"@id": "./"},
            "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"}}


def _root(profile: str, entries: list[Entry], files: list[Path], folder: Path) -> dict[str, Any]:
    return {"@id": "./", "@type": "Dataset", "name": f"Results of pfedmoap, profile {profile}",
            "description": f"Tables and figures of pFedMoAP: {', '.join(entry.title for entry in entries)}. "
                           "report.html shows all of them.",
            "datePublished": date.today().isoformat(), "license": {"@id": LICENCE}, "creator": {"@id": MAKERS},
            "publisher": {"@id": MAKERS}, "citation": {"@id": PAPER},
            "hasPart": _ids(_name(path, folder) for path in files),
            "mentions": _ids(f"#{entry.name}" for entry in entries)}


def _context(entries: list[Entry]) -> list[dict[str, Any]]:
    versions = {f"{name} {version}" for entry in entries for each in entry.facts.get("versions", [])
                for name, version in each.items() if name != "pfedmoap"}
    people = [f"#{name.replace(' ', '-')}" for name in AUTHORS]
    return [
        {"@id": KIT, "@type": "SoftwareApplication", "name": "pfedmoap", "version": __version__,
         "description": "Reference implementation of pFedMoAP", "softwareRequirements": sorted(versions),
         "license": {"@id": LICENCE}},
        {"@id": MAKERS, "@type": "Organization", "name": "The pfedmoap developers"},
        {"@id": LICENCE, "@type": "CreativeWork", "name": "MIT License",
         "description": "Permits use, change and distribution with the notice kept."},
        {"@id": PAPER, "@type": "ScholarlyArticle", "name": TITLE, "author": _ids(people), "datePublished": "2025"},
        *({"@id": person, "@type": "Person", "name": name} for person, name in zip(people, AUTHORS, strict=True))]


def _action(entry: Entry, files: list[Path], folder: Path) -> dict[str, Any]:
    """How a table was made: the command, and what its JSON file says of machine, data, CLIP, seeds and time."""
    facts = entry.facts
    said = {"CLIP": facts.get("clip"), "data": facts.get("data"), "machine": facts.get("machines"),
            "device": facts.get("devices"), "seeds": facts.get("seeds"), "commit": facts.get("commit")}
    words = [f"{name}: {', '.join(map(str, found)) if isinstance(found, list) else found}"
             for name, found in said.items() if found]
    of_entry = [path for path in files if path.stem == entry.name or path.stem.startswith(f"{entry.name}_")]
    return {"@id": f"#{entry.name}", "@type": "CreateAction", "name": entry.command, "instrument": {"@id": KIT},
            "agent": {"@id": MAKERS}, "result": _ids(_name(path, folder) for path in of_entry),
            "description": f"{entry.title}: {entry.subject}. {entry.seconds:.0f} seconds of runs, "
                           f"{entry.state}. {'; '.join(words)}."}


def _file(path: Path, folder: Path) -> dict[str, Any]:
    content = path.read_bytes()
    kind = TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return {"@id": _name(path, folder), "@type": "File", "name": path.name, "encodingFormat": kind,
            "contentSize": str(len(content)), "sha256": hashlib.sha256(content).hexdigest()}


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
