"""`pfedmoap cache`: the cached image features, and their removal."""

import dataclasses
import json
from typing import Annotated

import typer

from pfedmoap.commands.shared import AsJson, CacheDir
from pfedmoap.errors import UserError
from pfedmoap.system import paths

ALL = "all"


def cache(
    prune: Annotated[list[str] | None, typer.Option(help="Remove the features of a data set, or all.", metavar="NAME",
                                                    show_default=False)] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """List the cached image features, or remove some.

    Examples:

      pfedmoap cache

      pfedmoap cache --prune caltech101 --yes
    """
    from pfedmoap.commands import console
    from pfedmoap.data import cached_tables
    from pfedmoap.data import prune as remove

    folder = cache_dir or paths.cache_dir()
    tables = cached_tables(folder)
    if prune:
        known = {table.dataset for table in tables}
        for name in set(prune) - known - {ALL}:
            raise UserError(f"There are no features of {name!r} in {folder}; there are of: "
                            f"{', '.join(sorted(known)) or 'none'}.")  # fmt: skip
        chosen = [table for table in tables if {ALL, table.dataset} & set(prune)]
        size = sum(table.size for table in chosen) / 1e6
        if yes or typer.confirm(f"Remove {len(chosen)} tables, {size:,.1f} MB, from {folder}?", err=True):
            typer.echo(f"removed {remove(chosen) / 1e6:,.1f} MB", err=True)
        tables = cached_tables(folder)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(table) for table in tables], indent=1, default=str))
    else:
        console.show_cache(tables, folder)
