"""Which servers can do with the sum of the uploads, and the ledger of a record."""

import pandas as pd
import pytest
import torch
from reporting import make_record

from pfedmoap.experiments import Store, from_profile, run
from pfedmoap.leakage import ledger, needs, price_grid, private_runs, sums_reading, sums_table
from pfedmoap.leakage.sums import EACH, ENOUGH, NOTHING, price, summed
from pfedmoap.methods import CoOp, FedAMP, FedPer, PFedMoAP, PromptFL, ZeroShot
from pfedmoap.protection import composed_epsilon
from pfedmoap.server import weighted_average

SIZES = {0: 3, 1: 1, 2: 4, 3: 2}
GATE = {"d_gating": 16, "heads": 4}


def test_the_average_in_everyones_place_has_the_same_average_worked_by_hand():
    uploads = {0: {"prompt": torch.tensor([0.0, 8.0])}, 1: {"prompt": torch.tensor([4.0, 0.0])}}
    seen = summed(uploads, {0: 3, 1: 1})
    assert all(each["prompt"].tolist() == [1.0, 6.0] for each in seen.values())
    again = weighted_average({client: each["prompt"] for client, each in seen.items()}, {0: 3, 1: 1})
    assert again.tolist() == [1.0, 6.0]


@pytest.mark.parametrize("method, what", [
    (PromptFL(), ENOUGH), (FedPer(), ENOUGH), (PFedMoAP(expert_choice="global", **GATE), ENOUGH),
    (PFedMoAP(experts=0, **GATE), ENOUGH), (PFedMoAP(gate="none"), ENOUGH), (PFedMoAP(experts=2, **GATE), EACH),
    (PFedMoAP(expert_choice="random", **GATE), EACH), (FedAMP(), EACH), (CoOp(), NOTHING), (ZeroShot(), NOTHING)],
    ids=str)
def test_what_a_server_needs_is_found_by_running_it(context, method, what):
    assert needs(method, context, SIZES) == what


class Peeking(PromptFL):
    """Sends everyone the upload with the largest norm: the sum does not tell which."""

    def aggregate(self, server, uploads, sizes):
        server.shared["prompt"] = max((upload["prompt"] for upload in uploads.values()), key=torch.linalg.norm)


def test_a_method_that_looks_at_single_uploads_is_found_out(context):
    assert needs(Peeking(), context, SIZES) == EACH


def test_the_price_is_paired_by_seed(tmp_path):
    grid, store = price_grid("smoke", seeds=(1, 2)), Store(tmp_path)
    for place, row in enumerate(grid.rows):
        for column in grid.columns:
            for seed, one in enumerate(grid.cells[row.title, column.title]):
                store.put(one, make_record(one, [0.9 + 0.05 * seed - 0.1 * place] * 2))
    found = price(grid, store).set_index(["experts", "data"])
    line = found.loc[grid.rows[1].title, "nature"]
    assert line["accuracy"] == pytest.approx(82.5) and line["std"] == pytest.approx(2.5)
    assert line["difference"] == pytest.approx(-10.0) and line["difference_std"] == pytest.approx(0.0)
    needed = pd.DataFrame({"its server needs": {"PromptFL": ENOUGH, "pFedMoAP": EACH}}).rename_axis("method")
    assert "82.5 ± 2.5 (-10.0 ± 0.0)" in sums_table(needed, grid, store).to_markdown()
    assert "PromptFL: the sum is enough" in sums_reading(needed, grid, store)


def test_a_records_ledger_is_that_of_its_noise():
    (experiment,) = private_runs("smoke", rounds=4)
    record = run(experiment, progress=False)
    lines = ledger(record)
    assert list(zip(lines["round"], lines["client"], strict=True)) == [
        (entry["number"], client) for entry in record["rounds"] for client in entry["selected"]]
    multiplier = experiment.privacy.sigma(1.0, 4)
    expected = [composed_epsilon([multiplier] * count, 0.05) for count in lines["uploads"]]
    assert lines["epsilon"].tolist() == pytest.approx(expected) and lines["uploads"].max() > 1
    assert ledger(run(from_profile("nature", PromptFL(), "smoke"), progress=False)).empty
