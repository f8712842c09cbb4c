"""What several commands share: options, and lines on standard error."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pfedmoap.errors import PfedmoapError
from pfedmoap.system import printable

if TYPE_CHECKING:
    from pfedmoap.experiments import Experiment, Place


def say(message: str) -> None:
    """A line on standard error: standard output is for results."""
    typer.echo(printable(message), err=True)


def suggest(dataset: str, data_root: Path | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Says which data were found, and the settings that your own pictures suggest, which are returned."""
    from pfedmoap.commands.options import known_dataset
    from pfedmoap.experiments import chosen_in_words, load_dataset, suggested_settings

    imageset = load_dataset(known_dataset(dataset), data_root)
    say(f"data: {imageset.source}")
    settings = suggested_settings(imageset, given)
    if settings:
        say(chosen_in_words(imageset, settings))
    return settings


def warn_of_poor_match(experiment: "Experiment", place: "Place", progress: bool = False) -> None:
    """Says so if this CLIP hardly knows the pictures; what stops the look is left to the run, which names it."""
    from pfedmoap.experiments import poor_match

    with suppress(PfedmoapError):
        if warning := poor_match(experiment, place, progress):
            say(f"warning: {warning}")


def what(help: str, *names: str, **more: Any) -> Any:
    """An option that says what is run."""
    return typer.Option(*names, help=help, rich_help_panel="What to run", **more)


def place(help: str, **more: Any) -> Any:
    """An option that says where something is; nothing in that panel of the help changes a result."""
    return typer.Option(help=help, rich_help_panel="Where", **more)


DataRoot = Annotated[Path | None, place("Folder of the data sets that are read from disk, or of your own images.")]
CacheDir = Annotated[Path | None, place(r"Folder of cached image features. \[default: .cache in the project]")]
Device = Annotated[str, place("cpu, cuda, cuda:1, ...")]
Jobs = Annotated[int, place("Processes, of one torch thread each; 0: one per core.", min=0, metavar="INT")]
SeedsPerBatch = Annotated[int, place("Seeds that train as one batch; 0: 1 on a CPU, 8 on a GPU.", min=0, metavar="INT")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON value on standard output, and nothing else there.")]
