"""Options that several commands of the command line share."""

from pathlib import Path
from typing import Annotated, Any

import typer


def place(help: str, **more: Any) -> Any:
    """An option that says where something is; nothing in that panel of the help changes a result."""
    return typer.Option(help=help, rich_help_panel="Where", **more)


DataRoot = Annotated[Path | None, place("Folder of the data sets that are read from disk, or of your own images.")]
CacheDir = Annotated[Path | None, place(r"Folder of cached image features. \[default: .cache in the project]")]
Device = Annotated[str, place("cpu, cuda, cuda:1, ...")]
Jobs = Annotated[int, place("Processes, of one torch thread each; 0: one per core.", min=0, metavar="INT")]
TOGETHER = "Runs that train as one batch, if only their seeds differ; 0: 1 on a CPU, 8 on a GPU."
Together = Annotated[int, place(TOGETHER, min=0, metavar="INT")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON value on standard output, and nothing else there.")]
