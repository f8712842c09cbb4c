"""What the hostile inputs are made from, and what they are held against: one small undisturbed run and its files."""

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

SETTINGS = {
    "profile": "smoke",
    "method": "pfedmoap",
    "clients": "2",
    "partition": "dirichlet",
    "shots": "2",
    "rounds": "2",
    "local-epochs": "1",
    "test-images": "20",
}
RUN = ("run", *(word for name, value in SETTINGS.items() for word in (f"--{name}", value)))
NEEDED = ("pfedmoap.commands.app", "pfedmoap.commands.console", "pfedmoap.commands.options",
          "pfedmoap.commands.progress",
          "pfedmoap.reports.page.html", "pfedmoap.reports.page.markdown", "pfedmoap.reports.artefact",
          "pfedmoap.reports.crate", "pfedmoap.data.sheets", "pfedmoap.data.downloads", "pfedmoap.flower.ingest",
          "pfedmoap.batch.jobs", "papermill.translators", "markdown_it", "scipy.stats", "scipy.io")


@dataclass(frozen=True)
class Base:
    """An undisturbed run.

    Attributes:
        folder: with `records/`, `cache/`, `photographs/` (three classes), `personal.safetensors`.
        record: what it gave.
        record_file, checkpoint_file: the names of its files in a folder of records.
        checkpoint: the checkpoint after its first round.
    """

    folder: Path
    record: dict[str, Any]
    record_file: str
    checkpoint_file: str
    checkpoint: bytes

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def personal(self) -> bytes:
        return (self.folder / "personal.safetensors").read_bytes()

    def run(self, *more: str, cache: str = "") -> tuple[str, ...]:
        """The words of the command that does this run, or reads it, in the input's folder."""
        return (*RUN, "--results", "{}", "--cache-dir", cache or str(self.cache), "--json", *more)

    def wrong(self, folder: Path, printed: str) -> str | None:
        """What the run gave that it does not give undisturbed, or None."""
        try:
            found = json.loads(printed)
        except ValueError:
            return "what is printed is no JSON"
        if not isinstance(found, dict):
            return "no record"
        return next(
            (
                f"another {name}"
                for name in ("key", "experiment", "accuracy", "accuracy_last5", "data", "clip")
                if found.get(name) != self.record[name]
            ),
            None,
        ) or self._wrong_rounds(found["rounds"])

    def _wrong_rounds(self, rounds: Any) -> str | None:
        plain = [{name: value for name, value in one.items() if name != "seconds"} for one in self.record["rounds"]]
        try:
            found = [{name: value for name, value in one.items() if name != "seconds"} for one in rounds]
        except (AttributeError, TypeError):
            return "no rounds"
        return None if found == plain else "other rounds"


def make(folder: Path) -> Base:
    """Does the undisturbed run, and imports what inputs are tried on, once for all their processes."""
    for module in NEEDED:
        importlib.import_module(module)
    from pfedmoap.commands.options import build_experiments
    from pfedmoap.experiments import Personalised, Place, Store, prepare, run

    given = {name.replace("-", "_"): value for name, value in SETTINGS.items() if name not in ("profile", "method")}
    numbers = {name: int(value) if value.isdigit() else value for name, value in given.items()}
    (experiment,) = build_experiments("animals", ["pfedmoap"], ["1"], "smoke", numbers, {})
    place = Place(None, str(folder / "cache"), "cpu")
    store = Store(folder / "records")

    class Stopped(Exception):
        pass

    def stop(finished) -> None:
        if finished.number == 2:
            raise Stopped

    try:
        run(experiment, place, store=store, progress=False, on_round=stop)
    except Stopped:
        pass
    (checkpoint,) = store.folder.glob("*.checkpoint.safetensors")
    content = checkpoint.read_bytes()
    record = run(experiment, place, store=store, progress=False)
    prepared = prepare(experiment, place)
    for _ in prepared.federation.rounds():
        pass
    Personalised.of(prepared, 0).save(folder / "personal.safetensors")
    _photographs(folder / "photographs", prepared.imageset)
    return Base(folder, record, store.path(experiment).name, checkpoint.name, content)


def _photographs(folder: Path, imageset) -> None:
    """Six photographs of each of three classes, as somebody has them on disk."""
    for label, name in enumerate(imageset.class_names[:3]):
        rows = [index for index, own in enumerate(imageset.train.labels) if own == label][:6]
        (folder / name).mkdir(parents=True)
        for number, index in enumerate(rows):
            image: Image.Image = imageset.train.images[index]
            image.save(folder / name / f"{number}.jpg")
