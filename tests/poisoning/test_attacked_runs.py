"""Runs under attack: honest without attackers, judged as by a real server, and what a filter keeps out."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from pfedmoap.errors import UserError
from pfedmoap.experiments import Place, from_profile, run
from pfedmoap.methods import CoOp, FedPer, PFedMoAP, PromptFL
from pfedmoap.poisoning import (
    Attack,
    Scenario,
    grid,
    poisoned,
    poisoning_figure,
    poisoning_reading,
    poisoning_table,
    run_scenarios,
    scenarios,
    write_poisoning,
)
from pfedmoap.poisoning.numbers import summary
from pfedmoap.poisoning.study import title
from pfedmoap.released import RELEASED

BACKDOOR = Attack("backdoor", 3, 10 / 3)


@pytest.fixture(scope="module")
def place(features_cache) -> Place:
    return Place(cache=features_cache)


def small(method=PromptFL(), **settings):
    return from_profile("nature", method, "smoke", **settings)


@pytest.mark.parametrize("method", [PromptFL(), PFedMoAP(), FedPer()], ids=lambda method: method.name)
def test_without_attackers_and_filter_it_is_the_plain_run(place, method):
    found = poisoned(Scenario(small(method)), place)
    plain = run(small(method), place, progress=False)["rounds"][-1]["accuracies"]
    assert found["accuracy"] == pytest.approx([plain[client] for client in found["clients"]])
    assert len(found["clients"]) == 7 and found["reasons"] == [] and found["attackers"] == []
    assert found["uploads"] == {"honest": 20, "attackers": 0} and found["refused"] == {"honest": 0, "attackers": 0}


def test_a_backdoor_opens_the_averaged_prompt_and_the_median_filter_shuts_it(place):
    attacked = small(local_epochs=5, rounds=3, shots=8)
    calm, bare, kept = (poisoned(Scenario(attacked, attack, chosen), place)
                        for attack, chosen in ((Attack(), "none"), (BACKDOOR, "none"), (BACKDOOR, "median")))
    assert calm["clients"] == bare["clients"] == kept["clients"] and len(bare["attackers"]) == 3
    assert not set(bare["attackers"]) & set(bare["clients"]) and calm["target"] == bare["target"]
    assert bare["reasons"] == [] and bare["refused"]["attackers"] == 0  # all of it is within ingest's norm
    assert kept["uploads"]["attackers"] == 9 and kept["refused"]["attackers"] >= 7
    before, during, after = (sum(one["success"]) / 7 for one in (calm, bare, kept))
    assert during > before + 0.05 and during > after + 0.05


def test_poison_reaches_pfedmoaps_clients_through_experts_unless_refused(place):
    bare, kept = (poisoned(Scenario(small(PFedMoAP()), BACKDOOR, chosen), place) for chosen in ("none", "median"))
    assert all(0 < weight < 10 for weight in bare["attention"]) and kept["refused"]["attackers"] > 0
    assert poisoned(Scenario(small(PromptFL()), BACKDOOR), place)["attention"] == [None] * 7


@pytest.mark.parametrize("experiment, reason", [
    (small(CoOp()), "upload nothing"), (small(protocol=RELEASED), "leave out --protocol")],
    ids=["nothing sent", "released"])
def test_what_cannot_be_poisoned_is_refused(place, experiment, reason):
    with pytest.raises(UserError, match=reason):
        poisoned(Scenario(experiment, BACKDOOR), place)


def test_the_grid_has_every_attack_with_every_filter_and_labels_that_tell_them_apart():
    wanted = scenarios(grid("quick"))
    assert len({one.label for one in wanted}) == len(set(wanted)) == len(wanted) == 189
    assert {one.attack.boost for one in wanted} == {1.0, 10.0, 10 / 3}
    assert title(BACKDOOR) == "backdoor, 3 attackers" and title(Attack()) == "none"
    assert title(replace(BACKDOOR, boost=1.0)) == "backdoor, 3 attackers, as trained"


def made_up(one: Scenario) -> dict:
    """Seven clients, of whom one in seven answers with the target if there is an attack."""
    hit = 1.0 if one.attack.attackers else 0.0
    return {"accuracy": [0.5] * 6 + [1.0], "success": [hit] + [0.0] * 5 + [None], "attention": [None] * 7,
            "uploads": {"honest": 7, "attackers": one.attack.attackers}, "refused": {"honest": 1, "attackers": 0}}


def test_numbers_and_their_views_worked_by_hand(tmp_path):
    federations = grid("quick", seeds=(1, 2))
    results = {one: made_up(one) for one in scenarios(federations)}
    cells = summary(federations, results).set_index(["deal", "method", "attack", "filter"])
    cell = cells.loc["own classes", "PromptFL", "backdoor, 3 attackers", "median"]
    assert cell["seeds"] == 2 and cell["accuracy"] == pytest.approx(400 / 7) and cell["accuracy_std"] == 0
    assert cell["success"] == pytest.approx(100 / 6) and cell["honest_refused"] == pytest.approx(100 / 7)
    assert cell["attackers_refused"] == 0 and pd.isna(cell["attention"])
    assert "| backdoor, 3 attackers" in poisoning_table(federations, results).to_markdown()
    assert "success 0.0 → 16.7 %" in poisoning_reading(federations, results)
    assert len(poisoning_figure(federations, results).axes) == 12
    write_poisoning(federations, results, tmp_path)
    assert len(pd.read_csv(tmp_path / "privacy_poisoning.csv")) == len(cells) == 63


def test_results_are_kept(place, tmp_path):
    wanted = [Scenario(small())]
    (first,) = run_scenarios(wanted, place, folder=tmp_path, jobs=1, progress=False).values()
    (path,) = tmp_path.glob("*.json")
    path.write_text(json.dumps(first | {"target": -7}))
    assert run_scenarios(wanted, place, folder=tmp_path, jobs=1, progress=False)[wanted[0]]["target"] == -7
