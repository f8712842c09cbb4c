"""`pfedmoap notebooks`: the notebooks as files of one's own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from pfedmoap.commands.shared import say
from pfedmoap.system import paths, write_atomically

TEACHES = "01_method_step_by_step"
SHOWN = ("quick", "long")  # profiles whose committed results notebooks read


def notebooks(
    folder: Annotated[Path, typer.Argument(help="Where to; it is made if need be.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Also replace files that differ.")] = False,
    student: Annotated[bool, typer.Option("--student", help="Only 01, with holes and checks.")] = False,
) -> None:
    """Copy the notebooks into a folder, to run and change them there.

    Where the package was installed without its repository, the committed results
    that they show come with them. Then `pfedmoap reproduce` runs the notebooks of
    the folder that it is called in, and results and figures go there.

    Examples:

      pfedmoap notebooks here

      pfedmoap notebooks class --student
    """
    copies = list(_with_holes(folder) if student else _copies(folder))
    kept = [str(target) for content, target in copies if not _written(content, target, force)]
    if kept:
        say(f"kept, as they differ (--force replaces them): {', '.join(kept)}")
    for _, target in copies:
        if target.suffix == ".ipynb":
            typer.echo(target)


def _with_holes(folder: Path) -> Iterator[tuple[bytes, Path]]:
    import nbformat

    from pfedmoap.teaching import student_version

    notebook = nbformat.read(paths.SHIPPED / "notebooks" / f"{TEACHES}.ipynb", as_version=4)
    yield nbformat.writes(student_version(notebook)).encode(), folder / f"{TEACHES}_student.ipynb"


def _copies(folder: Path) -> Iterator[tuple[bytes, Path]]:
    """What is copied, and to where."""
    for source in sorted((paths.SHIPPED / "notebooks").glob("*.ipynb")):
        yield source.read_bytes(), folder / source.name
    if not paths.IN_CLONE:  # in a clone notebooks find its results wherever they are
        for profile in SHOWN:
            for source in sorted((paths.SHIPPED / "results" / profile).glob("*.*")):
                yield source.read_bytes(), folder / source.relative_to(paths.SHIPPED)


def _written(content: bytes, target: Path, force: bool) -> bool:
    """Whether the file is there as it should be; one that differs is kept unless forced."""
    if target.is_file() and target.read_bytes() == content:
        return True
    if target.exists() and not force:
        return False
    write_atomically(target, content)
    return True
