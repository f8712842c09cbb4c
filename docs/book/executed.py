"""Executed copies of the notebooks, for readers who run nothing: `docs/notebooks`, and the book's.

`make notebooks` makes those in `docs/notebooks` from the ones that `pfedmoap reproduce` left beside its results. They
have smaller pictures and nothing of the machine that they were executed on.
"""

import base64
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from PIL import Image

from pfedmoap.batch import default_parameters
from pfedmoap.system import NOTEBOOKS, ROOT, results_dir

COMMITTED = ROOT / "docs" / "notebooks"
ADDED = {"injected-parameters", "executed-copy"}  # tags of cells that a copy has besides the notebook's
HARMLESS = {"profile", "jobs", "results", "figures", "cache"}  # parameters that change no number of a profile
WIDEST, COLORS = 1300, 128  # of a picture: pixels, and how many a figure needs to look the same
WIDGET = "application/vnd.jupyter.widget-view+json"


def notebooks() -> list[Path]:
    """All notebooks, in the order in which they are read: 00 to 06, the tables, the figures."""
    return sorted(NOTEBOOKS.glob("*.ipynb"), key=lambda path: (path.stem.startswith("figure"), path.stem))


def profile_of(notebook: Path) -> str:
    """The profile that it is shown in: its own default."""
    return default_parameters(notebook)["profile"]


def command(notebook: Path) -> str:
    """What executes it."""
    return f"pfedmoap reproduce {notebook.stem} --profile {profile_of(notebook)}"


def belongs(copy: NotebookNode, notebook: NotebookNode) -> bool:
    """Whether a copy has the notebook's code, executed to the end, and no parameters but the profile's."""
    given = copy.metadata.get("papermill", {}).get("parameters", {})
    same = [cell.source for cell in _code(copy)] == [cell.source for cell in _code(notebook)]
    return same and _finished(copy) and given.keys() <= HARMLESS


def find(notebook: Path, folders: list[Path]) -> Path | None:
    """The first copy in the folders that belongs to the notebook."""
    present = nbformat.read(notebook, as_version=4)
    for path in (folder / notebook.name for folder in folders):
        if path.is_file() and belongs(nbformat.read(path, as_version=4), present):
            return path
    return None


def slim(notebook: Path, path: Path) -> NotebookNode:
    """The notebook with a copy's outputs, without times, paths and widgets' states, and with smaller pictures."""
    present, copy = (nbformat.read(each, as_version=4) for each in (notebook, path))
    executed_at = copy.metadata.get("papermill", {}).get("input_path") or f"{NOTEBOOKS}/_"
    root = str(Path(executed_at).parents[1])
    for count, (cell, done) in enumerate(zip(_code(present), _code(copy), strict=True), 1):
        cell.execution_count = count
        cell.outputs = list(_outputs(done, count, root))
    for cell in present.cells:
        cell.metadata = {name: value for name, value in cell.metadata.items() if name == "tags" and value}
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return nbformat.v4.new_notebook(cells=present.cells, metadata=metadata)


def heading(text: str) -> NotebookNode:
    """A cell in front of a copy that says what it is."""
    return nbformat.v4.new_markdown_cell(text, id="executed-copy", metadata={"tags": ["executed-copy"]})


def write(notebook: Path, executed: Path) -> None:
    """Puts a copy into `docs/notebooks`."""
    copy = slim(notebook, executed)
    results = f"results/{profile_of(notebook)}"
    copy.cells.insert(0, heading(
        f"*An executed copy of [{notebook.name}](../../notebooks/{notebook.name}), to be read without running; made by "
        f"`{command(notebook)}` and `make notebooks`. Its tables are in [{results}](../../{results}).*"))
    COMMITTED.mkdir(parents=True, exist_ok=True)
    nbformat.write(copy, COMMITTED / notebook.name)


def main() -> int:
    """Writes all copies that can be made, and says what executes the notebooks whose copies cannot."""
    lacking = []
    for notebook in notebooks():
        copy = find(notebook, [results_dir(profile_of(notebook)) / "notebooks", COMMITTED])
        if copy:
            write(notebook, copy)
        else:
            lacking.append(notebook)
    for stale in {path.name for path in COMMITTED.glob("*.ipynb")} - {path.name for path in notebooks()}:
        (COMMITTED / stale).unlink()
    for notebook in lacking:
        print(f"{notebook.stem} has no executed copy that belongs to it: {command(notebook)}", file=sys.stderr)
    return 1 if lacking else 0


def sources(notebook: NotebookNode) -> list[tuple[str, str]]:
    """Its cells, without those that only a copy has."""
    return [(cell.cell_type, cell.source) for cell in notebook.cells if not ADDED & set(cell.metadata.get("tags", ()))]


def _finished(copy: NotebookNode) -> bool:
    code = [cell for cell in _code(copy) if cell.source.strip()]
    return all(cell.execution_count for cell in code) and not any(
        output.output_type == "error" for cell in code for output in cell.outputs)


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    cells = [cell for cell in notebook.cells if not ADDED & set(cell.metadata.get("tags", ()))]
    return [cell for cell in cells if cell.cell_type == "code"]


def _outputs(cell: NotebookNode, count: int, root: str) -> Iterator[NotebookNode]:
    """What a reader needs of a cell's outputs: no progress bars, and of sliders their picture."""
    for output in cell.outputs:
        if output.output_type == "stream":
            if output.name == "stdout":
                output.text = _without_paths(output.text, root)
                yield output
            continue
        data = {kind: content for kind, content in output.data.items() if kind != WIDGET}
        if WIDGET in output.data and data.keys() <= {"text/plain"}:
            continue
        if "image/png" in data:
            data = {"image/png": _smaller(data["image/png"]), "text/plain": data.get("text/plain", "a figure")}
        output.data = {kind: _without_paths(content, root) if kind.startswith("text/") else content
                       for kind, content in data.items()}
        output.metadata = {}
        if output.output_type == "execute_result":
            output.execution_count = count
        yield output


def _without_paths(text: str, root: str) -> str:
    """The text with paths inside the project relative to it, and temporary folders called so."""
    text = text.replace(f"{root}/", "").replace(root, ".")
    return re.sub(r"/(?:tmp|var/folders)/[\w./-]*", "a-temporary-folder", text)


def _smaller(encoded: str) -> str:
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        if image.mode == "P" and image.width <= WIDEST:  # made smaller before
            return encoded
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image.convert("RGB"), mask=image.convert("RGBA").getchannel("A"))
    flat.thumbnail((WIDEST, 4 * WIDEST), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    flat.quantize(COLORS, dither=Image.Dither.NONE).save(content, "png", optimize=True)
    return base64.b64encode(content.getvalue()).decode()


if __name__ == "__main__":
    sys.exit(main())
