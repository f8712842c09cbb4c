"""`pfedmoap data`: examines data sets; `pfedmoap data download` fetches those that a program can."""

import dataclasses
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import click
import typer
from typer.core import TyperGroup

from pfedmoap.commands.shared import AsJson, CacheDir, DataRoot, place
from pfedmoap.errors import UserError
from pfedmoap.system import paths


class DataGroup(TyperGroup):
    """`pfedmoap data NAME` examines a data set, unless the first word is a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, args if args and args[0] in words else ["examine", *args])


data = typer.Typer(
    cls=DataGroup,
    help="Examine data sets, and download those that a program can.",
    epilog="Without a command, `pfedmoap data [NAMES]...` examines: see `pfedmoap data examine --help`.",
)


@data.command()
def examine(
    names: Annotated[list[str] | None, typer.Argument(help="Such as caltech101, folders for your own images, "
                                                           "or hf:NAME; all if none.", show_default=False)] = None,
    check: Annotated[bool, typer.Option("--check", help="Open every image, not just a few.")] = False,
    show: Annotated[Path | None, typer.Option(help="Write a contact sheet: some images of every class.",
                                              metavar="FILE.png")] = None,
    data_root: DataRoot = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show which data sets are there, complete and readable, and whether labels and names are aligned.

    With names also their cards: licence, source, citation, counts, what is odd, and where the set has to lie.

    Examples:

      pfedmoap data imagenet_v2

      pfedmoap data --data-root DIR

      pfedmoap data caltech101 --data-root DIR --check --show sheet.png
    """
    from pfedmoap.commands import console
    from pfedmoap.data import write_contact_sheet
    from pfedmoap.experiments import examine, load_dataset, worth_examining

    if show and len(names or ()) != 1:
        raise UserError("A contact sheet shows one data set: give its name before --show.")
    cache = cache_dir or paths.cache_dir()
    with redirect_stdout(sys.stderr):
        found = [examine(name, data_root, cache, check) for name in names or worth_examining(data_root)]
        if show and found[0].found:
            write_contact_sheet(load_dataset(names[0], data_root), show)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(diagnosis) for diagnosis in found], indent=1))
    else:
        console.show_diagnoses(found, named=bool(names))
        if data_root is None and not names:
            typer.echo("the data sets on disk are looked for with --data-root DIR", err=True)
    if any(diagnosis.problems or (names and not diagnosis.found) for diagnosis in found):
        raise typer.Exit(1)


@data.command()
def download(
    names: Annotated[list[str], typer.Argument(help="Such as cifar10 caltech101.", show_default=False)],
    data_root: Annotated[Path, place("Folder of the data sets; made if need be.")],
) -> None:
    """Download data sets, verify their checksums and unpack them.

    What is there already is left alone; a download that was cut goes on where it stopped
    when the same is run again.

    Example:

      pfedmoap data download cifar10 --data-root DIR
    """
    from pfedmoap.experiments import download_dataset

    for name in names:
        typer.echo(f"{name}: {download_dataset(name, data_root)}")
