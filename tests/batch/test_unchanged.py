"""A finished notebook is skipped until something that it was made from, or that it made, changes."""

from pathlib import Path

import pytest
from small_notebooks import WRITES, write_notebook

from pfedmoap.batch import execute, jobs, plan, unchanged
from pfedmoap.commands.app import main
from pfedmoap.errors import UserError
from pfedmoap.system import paths

pytest_plugins = ["notebook_fixtures"]  # a second conftest.py would hide the first from imports


@pytest.fixture
def finished(folder, places):
    """table1 as a job that is known to be finished, without the time that executing it takes."""
    (job,) = plan(["table1"], "quick", places, folder)
    job.output.write_text("executed")
    for product in products(job):
        product.parent.mkdir(exist_ok=True)
        product.write_text("numbers")
    unchanged.remember(job, products(job))
    return job


def products(job) -> list[Path]:
    return [job.folders[0] / "table1.csv", job.folders[1] / "table1.png"]


def test_a_second_call_skips_and_force_executes_again(folder, places, monkeypatch, capsys):
    monkeypatch.setattr(paths, "NOTEBOOKS", folder)
    arguments = ["reproduce", "table1", "--results", places["results"], "--figures", places["figures"]]
    for more, line in [((), "done in"), (("--jobs", "2"), "unchanged, skipped (--force executes it again)"),
                       (("--force",), "done in"), (("--seeds", "4"), "done in")]:  # fmt: skip
        with pytest.raises(SystemExit) as left:
            main([*arguments, *more])
        out, err = capsys.readouterr()
        assert left.value.code == 0 and f"table1_good: {line}" in err
        assert bool(out) == ("done" in line)


def test_what_was_not_executed_to_its_end_is_executed_again(folder, places):
    for _ in range(2):
        (outcome,) = execute(plan(["table2"], "quick", places, folder))
        assert outcome.failure and not outcome.skipped


def test_nothing_changed(finished, folder, places):
    assert unchanged.is_unchanged(finished)
    (same,) = plan(["table1"], "quick", places | {"jobs": "7"}, folder)
    assert unchanged.is_unchanged(same)
    (skipped,) = execute([same])
    assert skipped.skipped and skipped.written == () and skipped.failure is None


@pytest.mark.parametrize("parameters", [{"seeds": "1"}, {"share": "0.25"}, {"data_root": "."}])
def test_a_changed_parameter(finished, folder, places, parameters):
    (other,) = plan(["table1"], "quick", places | parameters, folder)
    assert not unchanged.is_unchanged(other)


def test_a_changed_profile(finished, folder, places):
    (other,) = plan(["table1"], "smoke", places, folder)
    assert not unchanged.is_unchanged(other)


def test_a_changed_notebook(finished):
    write_notebook(finished.notebook, WRITES, "more = 1")
    assert not unchanged.is_unchanged(finished)


def test_a_changed_package(finished, tmp_path, monkeypatch):
    package = tmp_path / "package"
    package.mkdir()
    monkeypatch.setattr(paths, "PACKAGE", package)
    seen = []
    for code in ("one", "two", "two"):
        (package / "code.py").write_text(code)
        unchanged._package.cache_clear()
        seen.append(unchanged.is_unchanged(finished))
        unchanged.remember(finished, [])
    unchanged._package.cache_clear()
    assert seen == [False, False, True]


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_text("other")])
@pytest.mark.parametrize("which", range(3))
def test_a_product_or_the_executed_copy_that_is_gone_or_another_one(finished, which, change):
    change([finished.output, *products(finished)][which])
    assert not unchanged.is_unchanged(finished)


def test_a_damaged_note_counts_as_none(finished):
    finished.output.with_suffix(".json").write_text("[1")
    assert not unchanged.is_unchanged(finished)
    finished.output.with_suffix(".json").write_text("[1]")
    assert not unchanged.is_unchanged(finished)


def test_the_note_names_no_place_on_this_machine(finished, tmp_path):
    assert str(tmp_path) not in finished.output.with_suffix(".json").read_text()


def test_a_note_that_cannot_be_written_is_reported(finished):
    finished.output.with_suffix(".json").unlink()
    finished.output.with_suffix(".json").mkdir()
    with pytest.raises(UserError, match="table1_good.json cannot be written"):
        unchanged.remember(finished, [])


def test_products_are_tables_and_figures(finished):
    assert sorted(finished.products()) == sorted(products(finished)) and jobs.PRODUCTS
