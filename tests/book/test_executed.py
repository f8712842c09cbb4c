"""The executed copies in `docs/notebooks`: of the present notebooks, with committed numbers, small, of no machine."""

import html
import json
import re

import executed
import nbformat
import pytest

from pfedmoap.experiments import GRIDS
from pfedmoap.reports.claims import read_verdicts
from pfedmoap.system.paths import results_dir

NOTEBOOKS = executed.notebooks()
REMEDY = "make notebooks, once `{}` has run"
TABLES = [(name, path) for name in GRIDS for path in NOTEBOOKS if path.stem.startswith(f"{name}_")]
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def outputs(notebook) -> list:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def shown(path, kind: str) -> str:
    copy = nbformat.read(executed.COMMITTED / path.name, as_version=4)
    return "".join(output.data.get(kind, "") for output in outputs(copy) if "data" in output)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_copy_has_the_cells_of_the_notebook_and_what_they_gave(path):
    assert executed.find(path, [executed.COMMITTED]), REMEDY.format(executed.command(path))
    copy = nbformat.read(executed.COMMITTED / path.name, as_version=4)
    nbformat.validate(copy)
    assert executed.sources(copy) == executed.sources(nbformat.read(path, as_version=4)), "make notebooks"
    assert copy.cells[0].metadata.tags == ["executed-copy"] and path.name in copy.cells[0].source
    assert any("image/png" in output.get("data", {}) for output in outputs(copy))
    text = (executed.COMMITTED / path.name).read_text()
    assert re.findall(r"/(?:home|root|Users|tmp|work)/[\w./-]+", text) == [] and executed.WIDGET not in text


@pytest.mark.parametrize(("name", "path"), TABLES)
def test_a_copys_numbers_are_the_committed_ones(name, path):
    facts = json.loads((results_dir(executed.profile_of(path)) / f"{name}.json").read_text())
    said = shown(path, "text/markdown")
    assert [each for each in facts["reading"] if each not in said] == [], REMEDY.format(executed.command(path))


def test_the_verdicts_in_the_copy_are_the_committed_ones():
    (path,) = [path for path in NOTEBOOKS if path.stem == "05_claims"]
    said = html.unescape(shown(path, "text/html"))
    verdicts = read_verdicts(results_dir(executed.profile_of(path)))
    judged = [one.words for one in verdicts if one.verdict != "not run"]
    assert judged and [words for words in judged if words not in said] == [], REMEDY.format(executed.command(path))


def test_the_copies_are_small_together_and_none_is_left_over():
    copies = list(executed.COMMITTED.glob("*.ipynb"))
    assert {path.stem for path in copies} == {path.stem for path in NOTEBOOKS}, "make notebooks"
    assert sum(path.stat().st_size for path in copies) < 6_000_000


@pytest.fixture
def notebook():
    cells = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell("1 + 1")]
    return nbformat.v4.new_notebook(cells=cells)


@pytest.fixture
def copy(notebook):
    """As papermill leaves it, on another machine."""
    copy = nbformat.from_dict(json.loads(json.dumps(notebook)))
    copy.cells[1].execution_count = 3
    injected = nbformat.v4.new_code_cell("# Parameters", metadata={"tags": ["injected-parameters"]}, execution_count=2)
    copy.cells.insert(1, injected)
    copy.metadata.papermill = {"input_path": "/home/me/kit/notebooks/a.ipynb", "parameters": {"profile": "quick"}}
    return copy


@pytest.mark.parametrize("spoil", [
    lambda copy: copy.cells[2].update(source="1 + 2"), lambda copy: copy.cells[2].update(execution_count=None),
    lambda copy: copy.cells[2].outputs.append(nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])),
    lambda copy: copy.cells.pop(), lambda copy: copy.metadata.papermill.parameters.update(seeds="1")],
    ids=["another source", "not executed", "an error", "a cell less", "other seeds"])
def test_what_does_not_belong_to_a_notebook_is_found(copy, notebook, spoil):
    notebook.cells[0].source = "# Another text"
    assert executed.belongs(copy, notebook)
    spoil(copy)
    assert not executed.belongs(copy, notebook)


def test_a_copy_keeps_what_a_reader_needs_and_nothing_of_the_machine(copy, notebook, tmp_path):
    output = nbformat.v4.new_output
    copy.cells[2].outputs = [
        output("stream", name="stderr", text="100 %"),
        output("stream", name="stdout", text="see /home/me/kit/results/a.csv"),
        output("display_data", {executed.WIDGET: {}, "text/plain": "a bar"}),
        output("display_data", {executed.WIDGET: {}, "text/plain": "sliders", "image/png": PNG}),
        output("execute_result", {"text/plain": "/tmp/abc/x 2"}, execution_count=3)]
    nbformat.write(copy, path := tmp_path / "copy.ipynb")
    nbformat.write(notebook, original := tmp_path / "a.ipynb")
    slim = executed.slim(original, path)
    assert [cell.source for cell in slim.cells] == ["# Title", "1 + 1"] and executed.belongs(slim, notebook)
    first, picture, last = slim.cells[1].outputs
    assert first.text == "see results/a.csv" and picture.data.keys() == {"image/png", "text/plain"}
    assert last.data == {"text/plain": "a-temporary-folder 2"} and slim.cells[1].execution_count == 1
    assert "papermill" not in slim.metadata and "/home" not in nbformat.writes(slim)
