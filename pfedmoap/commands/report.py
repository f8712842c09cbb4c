"""The command `pfedmoap report`."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from pfedmoap.commands.shared import place
from pfedmoap.system import paths


def report(
    profile: Annotated[str, typer.Option(help="Whose results: smoke, quick, long or paper.")] = "quick",
    results: Annotated[Path | None, place(r"Folder of the tables. \[default: results/PROFILE]")] = None,
    figures: Annotated[Path | None, place(r"Folder of the figures. \[default: figures/PROFILE]")] = None,
    out: Annotated[Path | None, place(r"The page. \[default: report.html beside the tables]", metavar="FILE")] = None,
    crate: Annotated[Path | None, place("Also a folder to archive: tables, figures, page, described as an RO-Crate.",
                                        metavar="FOLDER")] = None,
    artefact: Annotated[Path | None, place("Also bring up to date what ARTIFACT.md expects of the committed results.",
                                           metavar="FILE")] = None,
) -> None:
    """Build one page of all tables and figures: what they rest on, what is missing.

    Nothing is run: the files that `pfedmoap reproduce` wrote are read. The page
    needs no other file. The tables are also written as README.md into their folder.

    Example:

      pfedmoap report --profile paper --out report.html
    """
    from pfedmoap.reports import page, write_crate, write_expected
    from pfedmoap.system import write_atomically

    results, figures = results or paths.results_dir(profile), figures or paths.figures_dir(profile)
    out = out or results / "report.html"
    write_atomically(out, page.build(profile, results, figures).encode())
    write_atomically(results / "README.md", page.overview(profile, results, figures).encode())
    entries = page.collect(profile, results, figures)
    states = Counter(entry.state for entry in entries)
    typer.echo(", ".join(f"{count} {state}" for state, count in states.items()), err=True)
    for entry in entries:
        if entry.why:
            typer.echo(f"{entry.title} is {entry.state}: {entry.why} ({entry.command})", err=True)
    typer.echo(out)
    typer.echo(results / "README.md")
    if crate:
        typer.echo(write_crate(profile, results, figures, crate))
    if artefact:
        write_expected(artefact)
        typer.echo(artefact)
