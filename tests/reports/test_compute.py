"""What accuracy costs, against records worked out by hand (see `reporting`): two clients of 40 and 7 images."""

import json

import numpy as np
import pytest
from reporting import ROWS, make_grid, make_store

from pfedmoap.experiments import Row
from pfedmoap.methods import PromptFLFT
from pfedmoap.reports import compute, figures, matched

OURS = "pFedMoAP (λ = 0.5)"
STEPS = 5 * 5 + 5 * 1  # of a round: 5 epochs of 40 // 8 batches, and of the one batch that 7 images make
BYTES = [2 * (1024 + 1024), 2 * (1024 + 1024) + 2 * (1024 + 3072)]  # after the first and after the second round


@pytest.fixture
def grid():
    return make_grid("quick")


@pytest.fixture
def store(tmp_path, grid):
    """As `make_store`, but ZS-CLIP trains and sends nothing, and CoOp sends and receives half as much."""
    store = make_store(tmp_path, grid)
    for (row, _), experiments in grid.cells.items():
        for experiment in experiments:
            record = store.get(experiment)
            for entry in record["rounds"]:
                if row == "ZS-CLIP":
                    entry |= {"losses": {}, "bytes_up": {}, "bytes_down": {}, "seconds": {"train": 0.001}}
                elif row == "CoOp":
                    for way in ("bytes_up", "bytes_down"):
                        entry[way] = {client: count // 2 for client, count in entry[way].items()}
            store.put(experiment, record)
    return store


def test_costs_add_up_over_the_rounds(grid, store):
    table = compute(grid, store)
    assert len(table) == 3 * 2 * 2 * 2  # rows, columns, seeds, rounds
    ours = table[(table["row"] == OURS) & (table["column"] == "Flowers102") & (table["seed"] == 2)]
    assert ours["round"].tolist() == [1, 2]
    assert ours["steps"].tolist() == [STEPS, 2 * STEPS]
    assert ours["bytes"].tolist() == BYTES
    assert ours["seconds"].tolist() == [1, 2]
    assert ours["accuracy"].tolist() == pytest.approx([47.5, 95])
    untrained = table[table["row"] == "ZS-CLIP"]
    assert not untrained["steps"].any() and not untrained["bytes"].any()


def test_fine_tuning_is_in_the_last_round(tmp_path):
    grid = make_grid("quick", rows=(Row("CoOp", PromptFLFT(final_epochs=2)),), rounds=2)
    table = compute(grid, make_store(tmp_path, grid))
    assert table[table["round"] == 2]["steps"].tolist() == [2 * STEPS + 2 * 5 + 2 * 1] * 4


def test_at_equal_cost_a_method_has_the_accuracy_of_its_last_round_within_the_least_that_one_spends(grid, store):
    table = matched(grid, store)
    assert table.attrs["budget"] == {"steps": 2 * STEPS, "seconds": 2, "bytes": BYTES[1] / 2}  # CoOp's bytes
    assert table.loc["ZS-CLIP"].tolist() == pytest.approx([50, 50, 50])  # mean of 60 and 40
    assert table.loc["CoOp"].tolist() == pytest.approx([82.5, 82.5, 82.5])  # of 80 and 85
    assert table.loc[OURS].tolist() == pytest.approx([87.5, 87.5, 87.5 / 2])  # of 95 and 80; half in the first round


def test_beyond_the_budget_from_the_first_round_on_there_is_no_accuracy(grid, store):
    for experiment in [one for (row, _), runs in grid.cells.items() if row == OURS for one in runs]:
        record = json.loads(json.dumps(store.get(experiment)))
        record["rounds"][0]["bytes_up"]["0"] = BYTES[1]
        store.put(experiment, record)
    ours = matched(grid, store).loc[OURS]
    assert np.isnan(ours["bytes"]) and ours["steps"] == pytest.approx(87.5)


def test_the_figure_has_a_point_per_round_and_a_dashed_line_for_what_is_not_trained(grid, store):
    figure = figures.accuracy_by_cost(grid, store)
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "local steps of all clients", "seconds of training", "MiB sent and received"]
    costs = [STEPS, 2 * STEPS], [1, 2], [count / 2**20 for count in BYTES]
    for axes, cost in zip(figure.axes, costs, strict=True):
        lines = {line.get_label(): line for line in axes.lines}
        assert list(lines) == [row.title for row in ROWS]
        assert lines[OURS].get_xdata().tolist() == pytest.approx(cost)
        assert lines[OURS].get_ydata().tolist() == pytest.approx([43.75, 87.5])
        assert lines["ZS-CLIP"].get_linestyle() == "--"
        assert list(lines["ZS-CLIP"].get_ydata()) == pytest.approx([50, 50])
