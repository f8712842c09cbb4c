"""The student's version of the teaching notebook: unsolved it says what is missing, solved it says right."""

import os

import nbformat
import papermill
import pytest

from pfedmoap.commands import main
from pfedmoap.system.paths import NOTEBOOKS
from pfedmoap.teaching import student, student_version, unsolved

PATH = NOTEBOOKS / "01_method_step_by_step.ipynb"
WRONG = "nearest = {client: [client, 0] for client in nearest}"  # of exercise 3


@pytest.fixture
def notebook():
    return nbformat.read(PATH, as_version=4)


def solutions(notebook) -> list[str]:
    tagged = [cell.source for cell in notebook.cells if student.TAG in cell.metadata.get("tags", ())]
    code = [found[2] for source in tagged for found in student.EXERCISE.findall(source)]
    return [each.partition(student.CHECK)[0] for each in code if student.CHECK in each]


def checks(version) -> list[str]:
    return [cell.source for cell in version.cells if cell.id.endswith("-check")]


def test_it_has_holes_and_checks_in_place_of_solutions_and_all_else_of_the_notebook(notebook):
    version = student_version(notebook)
    nbformat.validate(version)
    text = "\n".join(cell.source for cell in version.cells)
    assert "<details>" not in text and "# hole" not in text and text.count(student.TURN) == 7
    assert len(checks(version)) == len(solutions(notebook)) == 6  # one exercise is only to be looked at
    assert all(f"### {number}. " in text for number in range(1, 8)) and "## Where to go next" in text
    others = [cell for cell in notebook.cells if student.TAG not in cell.metadata.get("tags", ())]
    assert [cell for cell in others if cell not in version.cells] == []


def test_what_is_missing_is_found():
    assert unsolved(a=..., b={1: 2, 3: ...}, c={1: 2}, d=0) == ["a", "b"]


def test_unsolved_it_says_what_is_missing_wrong_it_says_why_and_solved_it_says_right(notebook, tmp_path):
    version = student_version(notebook)
    each = list(zip(solutions(notebook), checks(version), strict=True))
    (third,) = [check for _, check in each if "nearest" in check]
    caught = "try:\n" + student.indent(third, "    ") + "\nexcept AssertionError as error:\n    print('wrong:', error)"
    for code in [*(code for pair in each for code in pair), WRONG, caught]:
        version.cells.append(nbformat.v4.new_code_cell(code))
    nbformat.write(version, tmp_path / "solved.ipynb")
    places = {"results": str(tmp_path), "figures": str(tmp_path), "cache": os.environ["PFEDMOAP_CACHE"]}
    done = papermill.execute_notebook(tmp_path / "solved.ipynb", tmp_path / "executed.ipynb",
                                      {"profile": "smoke"} | places, kernel_name="python3", progress_bar=False)
    printed = "".join(output.get("text", "") for cell in done.cells for output in cell.get("outputs", []))
    lines = printed.splitlines()
    assert [line.split(": still to be written: ")[1] for line in lines if "still to be written" in line] == [
        "seen", "kept", "nearest", "shuffled", "own_alone", "reached"]
    assert [line[0] for line in lines if line.endswith(": right")] == list("123467")
    assert "wrong: client 0 borrows from itself" in printed


def test_the_command_writes_it_alone(tmp_path):
    with pytest.raises(SystemExit) as left:
        main(["notebooks", str(tmp_path), "--student"])
    assert left.value.code == 0
    (path,) = tmp_path.iterdir()
    assert path.name == "01_method_step_by_step_student.ipynb" and student.TURN in path.read_text()
