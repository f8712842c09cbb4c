"""What is going to be executed is checked before anything is."""

from pathlib import Path

import pytest
from small_notebooks import WRITES, write_notebook

from pfedmoap.batch import jobs, plan
from pfedmoap.errors import UserError

pytest_plugins = ["notebook_fixtures"]  # a second conftest.py would hide the first from imports


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"seed": "1"}, "There is no parameter of table1_good 'seed'; did you mean 'seeds'?"),
        ({"jobs": "many"}, "jobs must be of the kind of 0, not 'many'."),
        ({"share": "true"}, "share must be of the kind of 0.5, not 'true'."),
        ({"data_root": "/no/such/folder"}, "the data root /no/such/folder is not a folder"),
    ],
)
def test_wrong_parameters_are_refused(folder, places, parameters, message):
    with pytest.raises(UserError, match="^" + message.replace("?", r"\?")):
        plan(["table1"], "quick", places | parameters, folder)


def test_a_parameter_goes_to_the_notebooks_that_have_it_and_one_of_them_must(folder, places):
    write_notebook(folder / "table3_shots.ipynb", parameters='profile = ""\nshots = 16')
    first, third = plan(["table1", "table3"], "smoke", places | {"shots": "8", "fast": "true"}, folder)
    assert first.parameters == {"profile": "smoke", "fast": True, "jobs": 1} | places
    assert third.parameters == {"profile": "smoke", "shots": 8}
    with pytest.raises(UserError, match="no parameter of these 2 notebooks 'shot'; did you mean 'shots'"):
        plan(["table1", "table3"], "smoke", {"shot": "8"}, folder)


def test_names_and_profiles_that_do_not_exist_are_refused(folder, tmp_path):
    with pytest.raises(UserError, match="no notebook 'tabel1'; did you mean 'table1'"):
        plan(["tabel1"], "quick", {}, folder)
    with pytest.raises(UserError, match="no profile 'quik'; did you mean 'quick'"):
        plan(["table1"], "quik", {}, folder)
    with pytest.raises(UserError, match="no notebooks in .*: `pfedmoap notebooks .*` copies"):
        jobs.find("table1", tmp_path / "elsewhere")


def test_a_notebook_is_found_by_its_first_part_or_its_whole_name_and_named_twice_is_executed_once(folder, places):
    write_notebook(folder / "table10_other.ipynb")
    for name in ("table1", "table1_good", "table1_good.ipynb"):
        assert jobs.find(name, folder).name == "table1_good.ipynb"
    assert len(plan(["table1", "table1_good"], "quick", places, folder)) == 1


def test_the_papers_notebooks_come_in_its_order(tmp_path):
    names = "figure4_lambda", "table2_x", "00_start", "table10_x", jobs.BEYOND, "figure3_shots", "table1_x"
    for name in names:
        write_notebook(tmp_path / f"{name}.ipynb")
    papers = ["table1_x", "table2_x", "table10_x", "figure3_shots", "figure4_lambda"]
    assert jobs.of_the_paper(tmp_path) == jobs.usual("paper", tmp_path) == papers
    assert jobs.usual("quick", tmp_path) == [*papers, jobs.BEYOND]


def test_a_file_that_is_no_notebook_is_refused(folder, places):
    (folder / "table4_text.ipynb").write_text("text")
    with pytest.raises(UserError, match="table4_text.ipynb is not a notebook"):
        plan(["table4"], "quick", places, folder)


def test_paths_are_made_absolute_as_notebooks_run_elsewhere(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (job,) = plan(["table1"], "quick", {"results": "here", "data_root": "notebooks"}, folder)
    assert job.parameters["results"] == str(tmp_path / "here")
    assert job.parameters["data_root"] == str(tmp_path / "notebooks")
    assert job.output == tmp_path / "here" / "notebooks" / "table1_good.ipynb"


def test_results_that_cannot_be_written_are_named(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/notebooks cannot be made .*--results DIR"):
        plan(["table1"], "quick", {"results": str(tmp_path / "file")}, folder)


def test_a_missing_kernel_is_named(folder, places, monkeypatch):
    monkeypatch.setattr(jobs, "KERNEL", "no-such-kernel")
    with pytest.raises(UserError, match="no kernel 'no-such-kernel' here: install one with"):
        plan(["table1"], "quick", places, folder)


@pytest.mark.parametrize(
    "notebook, product, owns",
    [
        ("table1_label_disjoint", "table1.csv", True),
        ("table1_label_disjoint", "table1_rounds.png", True),
        ("table1_label_disjoint", "table10.csv", False),
        ("00_start_here", "start_here_curves.pdf", True),
        ("00_start_here", "00.pdf", False),
    ],
)
def test_a_notebooks_products_are_known_by_their_names(tmp_path, notebook, product, owns):
    path = write_notebook(tmp_path / f"{notebook}.ipynb", WRITES)
    assert jobs.Job(path, tmp_path, {}, (tmp_path, tmp_path)).owns(Path(product)) is owns
