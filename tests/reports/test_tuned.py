"""The paper's settings beside tuned ones, against numbers worked out by hand."""

from dataclasses import replace

import pandas as pd
import pytest
from reporting import make_record

from pfedmoap.errors import UserError
from pfedmoap.experiments import Choices, Row, Store, plan_tuning, tuned_grids
from pfedmoap.methods import CoOp, PFedMoAP
from pfedmoap.reports import chosen_settings, table, tuned_numbers, tuned_table, write_table, write_tuned

ACCURACY = {  # percent by method, learning rate and data set, of seeds 1, 2 and 3
    ("CoOp", 0.002, "nature"): (70, 80, 90), ("CoOp", 0.002, "machines"): (90, 80, 70),
    ("CoOp", 0.008, "nature"): (80, 80, 80), ("CoOp", 0.008, "machines"): (60, 63, 66),
    ("pFedMoAP", 0.002, "nature"): (90, 90, 90), ("pFedMoAP", 0.002, "machines"): (90, 93, 96),
}


@pytest.fixture
def tuned(tmp_path):
    """CoOp is tuned to another learning rate once for all and on nature, pFedMoAP to none."""
    plan = plan_tuning("quick", ["coop", "pfedmoap"], ["nature", "machines"])
    choices = Choices({"coop": 5, "pfedmoap": 0}, {"coop": {"nature": 5, "machines": 0},
                                                   "pfedmoap": {"nature": 0, "machines": 0}})
    tries = pd.DataFrame([(name, column.dataset, each.number, f"try {each.number}")
                          for name, column, each, _ in plan.cells()], columns=["method", "dataset", "try", "settings"])
    grids, store = tuned_grids(plan, choices), Store(tmp_path / "records")
    for grid in grids.values():
        for (row, _), experiments in grid.cells.items():
            for one in experiments:
                accuracy = ACCURACY[row, one.lr, one.dataset][one.seed - 1] / 100
                store.put(one, make_record(one, [accuracy, accuracy]))
    return plan, choices, tries, grids, store


def test_means_are_over_the_data_sets_and_their_spread_over_seeds(tuned):
    *_, grids, store = tuned
    table = tuned_numbers(grids, store).set_index(["group", "method", "dataset"])
    assert len(table) == 3 * 2 * 3 and set(table["seeds"]) == {3}

    def of(*cell):
        return table.loc[cell, "mean"], table.loc[cell, "std"]

    assert of("paper", "CoOp", "nature") == pytest.approx((80, (200 / 3) ** 0.5))
    assert of("paper", "CoOp", "mean") == pytest.approx((80, 0))  # each seed's mean is 80
    assert of("once", "CoOp", "mean") == pytest.approx((71.5, 1.5 * (2 / 3) ** 0.5))  # 70, 71.5, 73
    assert of("per_dataset", "CoOp", "mean") == pytest.approx((80, 5 * (2 / 3) ** 0.5))  # 85, 80, 75
    for group in ("paper", "once", "per_dataset"):
        assert of(group, "pFedMoAP", "machines") == pytest.approx((93, 6**0.5))


def test_groups_of_settings_stand_side_by_side(tuned):
    plan, choices, tries, grids, store = tuned
    overall, *groups, chosen = tuned_table(plan, choices, tries, grids, store).blocks
    assert list(overall.text) == ["the paper's settings", "tuned once for all", "tuned per data set"]
    assert overall.text.loc["CoOp"].tolist() == ["80.00 ± 0.00", "71.50 ± 1.22", "80.00 ± 4.08"]
    assert overall.underlined.loc["pFedMoAP"].all() and not overall.underlined.loc["CoOp"].any()
    assert [list(block.text) for block in groups] == [["nature", "machines", "mean"]] * 3
    assert groups[1].text.loc["CoOp", "machines"] == "63.00 ± 2.45"
    assert chosen.text.loc["CoOp"].tolist() == ["try 5", "try 5", "try 0"]
    assert chosen_settings(choices, tries).equals(chosen.text)


def test_table_1_has_tuned_settings_beside_the_papers(tuned, tmp_path):
    *_, grids, store = tuned
    write_tuned(*tuned, tmp_path)
    rows = tuple(Row(title, method) for title, method in (
        ("CoOp", CoOp()), ("pFedMoAP (λ = 0)", PFedMoAP(lam=0.0)), ("pFedMoAP (λ = 0.5)", PFedMoAP())))
    paper = grids["paper"]
    cells = {(row.title, column.title): paper.cells[row.method.title, column.title]
             for row in rows for column in paper.columns}
    grid = replace(paper, name="table1", rows=rows, cells=cells)
    block, = (block for block in table(grid, store, tmp_path).blocks if block.kind == "tuned")
    assert list(block.text) == ["nature", "machines", "mean", "nature, tuned", "machines, tuned", "mean, tuned",
                                "mean, tuned per data set"]
    assert list(block.text.index) == ["CoOp", "pFedMoAP (λ = 0.5)"]  # the one that has the paper's settings
    assert block.text.loc["CoOp"].tolist() == [
        "80.00 ± 8.16", "80.00 ± 8.16", "80.00 ± 0.00", "80.00 ± 0.00", "63.00 ± 2.45", "71.50 ± 1.22", "80.00 ± 4.08"]
    assert not block.bold.any(axis=None)
    assert "mean, tuned per data set" in write_table(grid, store, tmp_path)[1].read_text()
    for other, folder in ((replace(grid, name="table6"), tmp_path), (grid, tmp_path / "empty"), (grid, None)):
        assert "tuned" not in [block.kind for block in table(other, store, folder).blocks]


def test_files_say_how_settings_were_chosen(tuned, tmp_path):
    csv, markdown, latex = write_tuned(*tuned, tmp_path)
    assert len(pd.read_csv(csv)) == 18
    text = markdown.read_text()
    assert "Every method had 6 tries" in text and "(seed 0)" in text and "over 3 seeds (1, 2, 3)" in text
    assert text.partition("\n")[0].endswith("a better one may lie beyond, for CoOp.")  # four times the paper's
    assert r"\begin{tabular}{lccc}" in latex.read_text()


def test_runs_that_are_missing_are_named(tuned, tmp_path):
    *_, grids, _ = tuned
    with pytest.raises(UserError, match="12 of 12 runs of tuned"):
        tuned_numbers(grids, Store(tmp_path / "empty"))
