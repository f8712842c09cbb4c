"""The ledger of privacy: dp-accounting called by hand, on noise that was really added."""

import json
import math

import dp_accounting
import pytest
from test_federation import federation

from pfedmoap.client import Recipe
from pfedmoap.federation import Plan, Round
from pfedmoap.methods import PFedMoAP, PromptFL
from pfedmoap.privacy import Privacy, sensitivity
from pfedmoap.protection import composed_epsilon, in_words, spent

CLIPPED = Recipe(2, 4, 0.05, 0.9, 5e-4, clip=1.0)


def by_hand(multipliers: list[float], delta: float) -> float:
    """dp-accounting's accountant of privacy-loss distributions, upload by upload."""
    accountant = dp_accounting.pld.PLDAccountant(value_discretization_interval=1e-3)
    for multiplier in multipliers:
        accountant.compose(dp_accounting.GaussianDpEvent(multiplier))
    return accountant.get_epsilon(delta)


@pytest.mark.parametrize("multipliers", [[0.85], [0.85] * 4, [2.0, 0.9, 1.4]], ids=["one", "alike", "unlike"])
@pytest.mark.parametrize("delta", [0.05, 1e-5])
def test_uploads_together_are_dp_accountings_composition(multipliers, delta):
    assert composed_epsilon(multipliers, delta) == pytest.approx(by_hand(multipliers, delta), abs=2e-3)


def test_of_no_upload_nothing_is_spent_and_without_noise_everything():
    assert composed_epsilon([], 0.05) == 0.0
    assert composed_epsilon([2.0, 0.0], 0.05) == math.inf


@pytest.mark.parametrize("method", [PromptFL(), PFedMoAP(experts=2, d_gating=16, heads=4)],
                         ids=lambda method: method.name)
def test_a_runs_ledger_counts_each_clients_own_uploads(context, method):
    run = federation(context, method, 3, recipe=CLIPPED, privacy=Privacy(2.0), participation=0.5)
    list(run.rounds())
    lines = json.loads(json.dumps(spent(run.history, run.plan, [len(rows) for rows in run.data.train_rows])))
    assert [(line["round"], line["client"]) for line in lines] == [
        (entry.number, client) for entry in run.history for client in entry.selected]
    multiplier = dp_accounting.get_sigma_gaussian(2.0, 0.05)
    for line in lines:
        took_part = sum(line["client"] in entry.selected for entry in run.history[: line["round"]])
        assert line["uploads"] == took_part and line["multiplier"] == pytest.approx(multiplier)
        assert line["epsilon"] == pytest.approx(by_hand([multiplier] * took_part, 0.05), abs=2e-3)
    assert {line["uploads"] for line in lines} > {1}


def test_a_promise_for_the_total_is_kept():
    """One client, three uploads, after six steps each: 32 images, batches of 16, three epochs."""
    recipe, privacy = Recipe(3, 16, 0.05, 0.9, 5e-4, clip=1.0), Privacy(2.0, accounting="total")
    sigma = privacy.sigma(sensitivity(6, 0.05, 1.0, 0.9), uploads=3)
    history = [Round(number, [0], sigmas={0: sigma}) for number in (1, 2, 3)]
    lines = spent(history, Plan(3, 1.0, recipe, privacy), [32])
    assert [line["uploads"] for line in lines] == [1, 2, 3]
    assert lines[0]["epsilon"] < lines[1]["epsilon"] < lines[2]["epsilon"] == pytest.approx(2.0, abs=0.01)


def test_without_privacy_there_is_nothing_to_count_and_clipping_alone_promises_nothing(context):
    plain = federation(context, PromptFL(), 1)
    plain.run_round()
    assert spent(plain.history, plain.plan, [8] * 4) == []
    clipped = federation(context, PromptFL(), 1, recipe=CLIPPED, privacy=Privacy(math.inf))
    clipped.run_round()
    assert {line["epsilon"] for line in spent(clipped.history, clipped.plan, [8] * 4)} == {"inf"}


def test_the_ledger_in_words():
    lines = [{"round": 1, "client": 0, "uploads": 1, "epsilon": 2.0}, {"round": 1, "client": 2, "uploads": 1,
             "epsilon": 2.0}, {"round": 2, "client": 0, "uploads": 2, "epsilon": 3.4108}, {"round": 2, "client": 1,
             "uploads": 1, "epsilon": 2.0}]  # fmt: skip
    assert in_words(lines, 0.05) == ["privacy spent: ε = 2.00 at δ = 0.05 by 1 upload of clients 1, 2",
                                     "privacy spent: ε = 3.41 at δ = 0.05 by 2 uploads of client 0"]
    assert in_words([], 0.05) == []
