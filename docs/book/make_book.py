"""`make book`: the notebooks with their outputs, the pages, and the API as one site in build/book."""

import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import executed
import staging

from pfedmoap import batch
from pfedmoap.system import ROOT

BUILD = ROOT / "build" / "book"
REQUEST = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=["'](?:https?:)?//[^"']+"""
    r"""|<link\b[^>]*\bhref=["'](?:https?:)?//[^"']+"""
    r"""|(?:url\(|@import )["']?(?:https?:)?//[^)"']+""")


def main(arguments: list[str]) -> int:
    """Executes in the profile smoke what no copy belongs to, then builds."""
    start, smoke = time.monotonic(), BUILD / "smoke"
    places = {path: [*staging.copies_of(path), smoke / "notebooks"] for path in executed.notebooks()}
    execute_in_smoke([path for path, folders in places.items() if not executed.find(path, folders)], smoke)
    failed = build(BUILD, arguments)
    print(f"{BUILD / 'html' / 'index.html'}, in {time.monotonic() - start:.0f} s")
    return failed


def build(folder: Path, arguments: Sequence[str] = ()) -> int:
    """Stages and builds the book, and checks that no page asks another machine for anything; 0 if all is well."""
    from sphinx.cmd.build import build_main  # an extra, which the check of the pages does without

    source, site, settings = folder / "source", folder / "html", str(Path(__file__).parent)
    for notebook in staging.stage(source, folder / "smoke"):
        print(f"{notebook.stem} is not shown with its own numbers: {executed.command(notebook)}")
    failed = build_main(["-b", "html", "-q", "-c", settings, "-d", str(folder / "doctrees"), *arguments,
                         str(source), str(site)])
    asked = sorted(set(requests(site)))
    if asked:
        print("error: these pages ask another machine for something:", *asked, sep="\n  ")
    return failed or bool(asked)


def execute_in_smoke(notebooks: list[Path], folder: Path) -> None:
    """Executes notebooks in the profile smoke; one that fails is shown without outputs."""
    if not notebooks:
        return
    places = {"results": str(folder), "figures": str(folder / "figures")}
    planned = batch.plan([path.stem for path in notebooks], "smoke", places)
    for outcome in batch.execute(planned, minutes=batch.time_limit("smoke")):
        print(f"{outcome.job.name} was executed in the profile smoke", outcome.failure or "")


def requests(site: Path) -> Iterator[str]:
    """What pages and styles load from other machines when they are opened; links to follow are not meant."""
    for path in site.rglob("*"):
        if path.suffix in (".html", ".css"):
            for found in REQUEST.findall(path.read_text()):
                yield f"{path.relative_to(site)}: {found}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
