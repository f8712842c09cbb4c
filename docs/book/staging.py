"""The book's sources in one folder, laid out as the repository is, so that links between its pages hold in both."""

import re
import shutil
from pathlib import Path

import executed
import linked
import nbformat

from pfedmoap.system import ROOT, paths, results_dir

PAGES = ("ARTIFACT.md", "CONTRIBUTING.md", "CHANGELOG.md")  # of the repository's first folder, beside the README
LINK = re.compile(r"\[([^\[\]]*)\]\((?!https?:|#|mailto:)([^)#\s]+)\)")
SMOKE = "These numbers are of the profile smoke: proof that the notebook runs, and nothing more."
NOT_EXECUTED = "It was not executed for this book."


def stage(source: Path, smoke: Path) -> list[Path]:
    """Writes everything that Sphinx reads.

    Args:
        source: the folder, which is made anew.
        smoke: where notebooks without a copy that belongs to them were executed in the profile smoke.

    Returns:
        The notebooks that are shown in the profile smoke, or without outputs.
    """
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    shutil.copytree(ROOT / "docs", source / "docs", ignore=shutil.ignore_patterns("book", "notebooks", "__pycache__"))
    for name in PAGES:
        shutil.copy2(ROOT / name, source)
    lacking = [path for path in executed.notebooks() if not _notebook(path, source, smoke)]
    for page in linked.pages():
        _write(source / linked.as_link(page.path), _table(page))
    for profile in linked.PROFILES:
        shutil.copy2(results_dir(profile) / "README.md", source / "results" / profile)
    _write(source / "claims.md", linked.claims())
    for name, text in _api().items():
        _write(source / "api" / f"{name}.md", text)
    _write(source / "index.md", _index())
    for page in source.rglob("*.md"):
        mend_links(page, source)
    return lacking


def copies_of(notebook: Path) -> list[Path]:
    """Where a copy with the notebook's own numbers may be: beside the results, or committed."""
    return [results_dir(executed.profile_of(notebook)) / "notebooks", executed.COMMITTED]


def _notebook(path: Path, source: Path, smoke: Path) -> bool:
    """Stages a notebook, with a cell that links to what it wrote; says whether it has its own profile's numbers."""
    copy, short = executed.find(path, copies_of(path)), executed.find(path, [smoke / "notebooks"])
    shown = executed.slim(path, copy or short or path)
    made = f"Executed by `{executed.command(path)}`." if copy else SMOKE if short else NOT_EXECUTED
    tables = [f"- [{page.title}](../results/{page.profile}/{page.name}.md): " + ", ".join(
        f"[{what}](../results/{page.profile}/{file.name})" for what, file in page.files.items())
        for page in linked.of_notebook(path)]
    claims = {claim.id: f"[{claim.id}](../claims.md#claim-{claim.id})" for page in linked.of_notebook(path)
              for claim in page.claims}
    lines = [made, f"To run and change it: {{download}}`{path.name} <../files/{path.name}>`", "", *tables]
    lines += [f"- Claims: {' · '.join(claims.values())}"] if claims else []
    shown.cells.insert(1, executed.heading("\n".join([":::{admonition} Executed copy", *lines, ":::"])))
    target = source / "notebooks" / path.name
    target.parent.mkdir(exist_ok=True)
    nbformat.write(shown, target)
    (source / "files").mkdir(exist_ok=True)
    shutil.copy2(path, source / "files")
    return copy is not None


def _table(page: linked.Page) -> str:
    """A committed table with a title, its links, and its figures."""
    figures = [f"![{path.stem.replace('_', ' ')}](../../{linked.as_link(path)})" for path in page.figures]
    return "\n\n".join([f"# {page.title}", "\n".join(page.lines()), page.path.read_text().strip(), *figures]) + "\n"


def _api() -> dict[str, str]:
    """A page for the package's root, which is the paper, and one for each room: all of its modules."""
    rooms: dict[str, list[str]] = {}
    for path in sorted(paths.PACKAGE.rglob("*.py")):
        parts = path.relative_to(paths.PACKAGE.parent).with_suffix("").parts
        if path.stem != "__main__":
            rooms.setdefault(parts[1] if len(parts) > 2 else "pfedmoap", []).append(_module(parts))
    return {room: "\n\n".join([f"# {room}", *modules]) + "\n" for room, modules in rooms.items()}


def _module(parts: tuple[str, ...]) -> str:
    name = ".".join(parts).removesuffix(".__init__")
    members = "" if parts[-1] == "__init__" else "   :members:\n"  # a door leads to names of its modules
    return f"## {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n{members}```"


def _index() -> str:
    """The README, with the book's contents."""
    notebooks = [f"notebooks/{path.stem}" for path in executed.notebooks()]
    tables = {profile: [linked.as_link(page.path) for page in linked.pages() if page.profile == profile]
              for profile in linked.PROFILES}
    guides = [f"docs/{path.stem}" for path in sorted((ROOT / "docs").glob("*.md"))]
    contents = {"Notebooks": notebooks, "Guides": [*guides, *PAGES],
                "Results": ["results/quick/README", *tables["quick"], "results/long/README", *tables["long"], "claims"],
                "Reference": ["api/pfedmoap", *sorted(f"api/{room}" for room in _api() if room != "pfedmoap")]}
    trees = [f":::{{toctree}}\n:caption: {caption}\n:hidden:\n:maxdepth: 1\n\n" + "\n".join(
        name.removesuffix(".md") for name in names) + "\n:::" for caption, names in contents.items()]
    return "\n\n".join([(ROOT / "README.md").read_text(), *trees]) + "\n"


def mend_links(page: Path, source: Path) -> None:
    """Has every link lead somewhere: the README is the index, files are copied, a folder is its README or no link."""
    folder = page.relative_to(source).parent

    def mended(found: re.Match) -> str:
        text, link = found.groups()
        original = (ROOT / folder / link).resolve()
        target = (source / folder / link).resolve()
        if original == ROOT / "README.md":
            return f"[{text}]({link.removesuffix('README.md')}index.md)"
        if original.is_dir():
            return f"[{text}]({link.rstrip('/')}/README.md)" if (target / "README.md").is_file() else text
        if original.is_file() and not target.exists() and target.is_relative_to(source.resolve()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(original, target)
        return found[0]

    page.write_text(LINK.sub(mended, page.read_text()))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
