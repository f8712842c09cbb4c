"""Notebooks as batch jobs, with small notebooks that papermill really executes."""

import gc
import logging
import os
import signal
import threading
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from pfedmoap import batch, paths
from pfedmoap.cli import main
from pfedmoap.errors import UserError

PARAMETERS = """
profile = "quick"  # smoke = seconds
seeds = "1,2,3"
jobs = 0  # 0 = one per core
fast = False
share = 0.5
results = ""
figures = ""
data_root = ""
"""
WRITES = """
from pathlib import Path
Path(results, "table1.csv").write_text(f"{profile} {seeds} {jobs} {fast} {share}")
Path(figures).mkdir()
Path(figures, "table1.png").touch()
"""
FAILS = """first = 1
second = 2
third = 3
raise ValueError("a sentence\\nand the last line")
"""


def write_notebook(path: Path, *cells: str) -> Path:
    first, *others = cells
    parameters = new_code_cell(first, metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[parameters, *map(new_code_cell, others)]), path)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """table1 writes a table and a figure, table2 fails after its first output."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    write_notebook(folder / "table1_good.ipynb", PARAMETERS, WRITES)
    write_notebook(folder / "table2_broken.ipynb", PARAMETERS, "print('so far')", FAILS)
    return folder


@pytest.fixture
def places(tmp_path) -> dict[str, str]:
    return {"results": str(tmp_path / "r"), "figures": str(tmp_path / "f")}


def test_a_failing_notebook_is_reported_and_the_others_go_on(folder, places, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "NOTEBOOKS", folder)
    monkeypatch.chdir(tmp_path)
    arguments = ["reproduce", "table2", "table1", "--profile", "smoke", "--seeds", "2", "--jobs", "3"]
    arguments += ["-p", "fast", "true", "-p", "share", "1", "--results", "r", "--figures", "f"]
    with pytest.raises(SystemExit) as left:
        main(arguments)
    out, err = capsys.readouterr()

    assert left.value.code == 1
    assert out.splitlines() == ["f/table1.png", "r/table1.csv"]
    assert (tmp_path / "r" / "table1.csv").read_text() == "smoke 2 3 True 1.0"
    report = err[err.index("error:") :].splitlines()
    assert report[0] == "error: 1 of 2 notebooks failed."
    assert [line.strip() for line in report[1:]] == [
        "table2_broken, cell [4]:", "first = 1", "second = 2", "third = 3", "...",
        "ValueError: and the last line", "what it did: r/notebooks/table2_broken.ipynb",
    ]  # fmt: skip
    kept = nbformat.read(tmp_path / "r" / "notebooks" / "table2_broken.ipynb", as_version=4)
    assert any("so far" in output.get("text", "") for cell in kept.cells for output in cell.get("outputs", ()))


def test_a_killed_kernel_is_a_failure_with_a_remedy(folder, places):
    write_notebook(folder / "table3_killed.ipynb", PARAMETERS, "import os; os._exit(9)")
    (outcome,) = batch.reproduce(["table3"], parameters=places, folder=folder)
    assert "its kernel was killed" in outcome.failure and outcome.written == ()


def test_an_interrupt_stops_everything_and_says_that_nothing_is_lost(folder, places, monkeypatch, capfd):
    """The kernel runs in the folder of the notebooks; Ctrl-C comes when its cell does."""
    sleeps = "import os, time; open('pid', 'w').write(str(os.getpid())); open('ready', 'w').close(); time.sleep(60)"
    write_notebook(folder / "table5_long.ipynb", PARAMETERS, sleeps)
    monkeypatch.setattr(paths, "NOTEBOOKS", folder)
    monkeypatch.setattr(logging.getLogger("asyncio"), "level", logging.WARNING)

    def interrupt():
        deadline = time.monotonic() + 60
        while not (folder / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(SystemExit) as left:
        main(["reproduce", "table5", "table1", "--results", places["results"], "--figures", places["figures"]])
    gc.collect()
    err = capfd.readouterr().err
    assert left.value.code == 130
    assert "interrupted; what is finished is kept" in err and "Traceback" not in err
    assert not (Path(places["results"]) / "table1.csv").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "pid").read_text()), 0)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"seed": "1"}, "There is no parameter of table1_good 'seed'; did you mean 'seeds'?"),
        ({"jobs": "many"}, "jobs must be of the kind of 0, not 'many'."),
        ({"share": "true"}, "share must be of the kind of 0.5, not 'true'."),
        ({"data_root": "/no/such/folder"}, "the data root /no/such/folder is not a folder"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_is_executed(folder, places, parameters, message):
    with pytest.raises(UserError, match="^" + message.replace("?", r"\?")):
        next(batch.reproduce(["table1"], parameters=places | parameters, folder=folder))
    assert not list(Path(places["results"]).glob("**/*.ipynb"))


def test_names_and_profiles_that_do_not_exist_are_refused(folder, tmp_path):
    with pytest.raises(UserError, match="no notebook 'tabel1'; did you mean 'table1'"):
        batch.plan(["tabel1"], "quick", {}, folder)
    with pytest.raises(UserError, match="no profile 'quik'; did you mean 'quick'"):
        batch.plan(["table1"], "quik", {}, folder)
    with pytest.raises(UserError, match="no notebooks in .*: run from a clone"):
        batch.find("table1", tmp_path / "elsewhere")


def test_a_notebook_is_found_by_its_first_part_or_its_whole_name(folder):
    write_notebook(folder / "table10_other.ipynb", PARAMETERS)
    for name in ("table1", "table1_good", "table1_good.ipynb"):
        assert batch.find(name, folder).name == "table1_good.ipynb"


def test_a_file_that_is_no_notebook_is_refused(folder, places):
    (folder / "table4_text.ipynb").write_text("text")
    with pytest.raises(UserError, match="table4_text.ipynb is not a notebook"):
        batch.plan(["table4"], "quick", places, folder)


def test_paths_are_made_absolute_as_notebooks_run_elsewhere(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (job,) = batch.plan(["table1"], "quick", {"results": "here", "data_root": "notebooks"}, folder)
    assert job.parameters["results"] == str(tmp_path / "here")
    assert job.parameters["data_root"] == str(tmp_path / "notebooks")
    assert job.output == tmp_path / "here" / "notebooks" / "table1_good.ipynb"


def test_results_that_cannot_be_written_are_named(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/notebooks cannot be made .*--results DIR"):
        batch.plan(["table1"], "quick", {"results": str(tmp_path / "file")}, folder)


def test_a_missing_kernel_is_named(folder, places, monkeypatch):
    monkeypatch.setattr(batch, "KERNEL", "no-such-kernel")
    with pytest.raises(UserError, match="no kernel 'no-such-kernel' here: install one with"):
        next(batch.reproduce(["table1"], parameters=places, folder=folder))
