"""Experiments: what is refused, what the key depends on, and that they survive JSON."""

import dataclasses
import json

import pytest

from pfedmoap.errors import UserError
from pfedmoap.experiments import Experiment, from_profile, table1
from pfedmoap.methods import METHODS, CoOp, PFedMoAP, PromptFL
from pfedmoap.released import released

OTHER = dict(
    dataset="digits", method=PFedMoAP(lam=1.0), seed=2, clients=5, partition="iid", alpha=0.3, shots=None, views=2,
    test_images=5, model="RN50-quickgelu", weights="openai", precision="bf16", context_tokens=4, rounds=3,
    participation=0.5, local_epochs=1, batch_size=8, lr=0.1, momentum=0.0, weight_decay=0.0, schedule="cosine",
    epsilon=50.0, delta=0.1, clip=2.0, dp_accounting="total", dp_test_prompt="uploaded",
    protocol=released("data_seed"))


def test_every_setting_changes_the_key():
    other = OTHER | {"evaluate": "base_new"}  # which no run asks under another protocol
    assert other.keys() == {field.name for field in dataclasses.fields(Experiment)}
    keys = {Experiment(**{name: value}).key for name, value in other.items()}
    assert len(keys | {Experiment().key}) == len(other) + 1


def test_the_key_is_stable():
    """A change here orphans everyone's records: do it only with a reason."""
    assert Experiment().key == Experiment(**{name: getattr(Experiment(), name) for name in OTHER}).key
    assert len(Experiment().key) == 16 and Experiment().label.endswith(Experiment().key)


@pytest.mark.parametrize("method", [method() for method in METHODS.values()] + [PFedMoAP(experts=(1, 2), lam=0.0)])
def test_experiments_survive_json(method):
    one = Experiment(**OTHER | {"method": method, "clients": 2})
    again = Experiment.from_dict(json.loads(json.dumps(one.to_dict())))
    assert again == one and again.key == one.key and hash(again) == hash(one)


def test_an_infinite_epsilon_is_valid_json():
    one = Experiment(epsilon=float("inf"))
    text = json.dumps(one.to_dict(), allow_nan=False)
    assert Experiment.from_dict(json.loads(text)) == one and one.key != Experiment(epsilon=1.0).key


def test_a_weights_file_counts_by_content(tmp_path):
    for name, content in (("a.pt", b"one"), ("copy.pt", b"one"), ("b.pt", b"two")):
        (tmp_path / name).write_bytes(content)
    keys = {name: Experiment(weights=str(tmp_path / name)).key for name in ("a.pt", "copy.pt", "b.pt")}
    assert keys["a.pt"] == keys["copy.pt"] != keys["b.pt"]


def test_shipped_weights_count_by_content(tmp_path, monkeypatch):
    before = Experiment().key
    monkeypatch.setattr("pfedmoap.experiments.experiment.ASSETS", tmp_path)
    (tmp_path / "embedded_clip.safetensors").write_bytes(b"other weights")
    assert Experiment().key != before


@pytest.mark.parametrize(("settings", "message"), [
    ({"rounds": 0}, "rounds must be a whole number >= 1, not 0"),
    ({"rounds": 2.5}, "rounds must be"), ({"seed": -1}, "seed must be"), ({"clients": True}, "clients must be"),
    ({"participation": 0}, "participation must be"), ({"participation": 1.1}, "participation must be"),
    ({"partition": "random"}, "one of label_disjoint"), ({"shots": 0}, "shots must be"),
    ({"test_images": 0}, "test_images must be"),
    ({"schedule": "linear"}, "constant or cosine"), ({"momentum": 1.0}, "momentum must be"),
    ({"alpha": 0}, "alpha must be"), ({"precision": "fp16"}, "fp32 or bf16"), ({"method": "coop"}, "method must be"),
    ({"epsilon": 0.0}, "epsilon must be"), ({"epsilon": 1.0, "delta": 1.0}, "delta must be"),
    ({"protocol": "released"}, "protocol must be a Protocol"),
    ({"epsilon": 1.0, "protocol": released("round_order")}, "no differential privacy with .* round_order 'sequential'"),
    ({"method": PFedMoAP(experts=(1, 2))}, "experts lists 2 numbers for 10 clients"),
])
def test_settings_out_of_range_are_refused_by_name(settings, message):
    with pytest.raises(UserError, match=message):
        Experiment(**settings)


def test_unknown_settings_are_refused_with_the_closest():
    with pytest.raises(UserError, match="no setting 'round'; did you mean 'rounds'"):
        Experiment.from_dict({"round": 3})
    with pytest.raises(UserError, match="did you mean 'quick'"):
        from_profile("nature", CoOp(), "quik")


def test_the_paper_profile_is_section_4_1():
    one = from_profile("flowers102", PFedMoAP(), "paper")
    assert (one.clients, one.rounds, one.local_epochs, one.shots, one.batch_size) == (10, 10, 5, 16, 16)
    assert (one.lr, one.context_tokens, one.participation, one.views) == (0.002, 16, 1.0, 50)
    assert (one.model, one.weights) == ("RN50-quickgelu", "openai")
    assert (one.method.gate_lr, one.method.lam, one.method.experts, one.method.heads) == (0.01, 0.5, 9, 8)
    coop = from_profile("flowers102", CoOp(), "paper")
    assert (coop.rounds * coop.local_epochs, coop.views) == (25, 25)
    budgets = {from_profile("nature", method, "quick").rounds for method in (CoOp(), PromptFL(), PFedMoAP())}
    assert len(budgets) == 1  # CoOp has the others' budget outside the paper profile


def test_table1s_grid():
    grid = table1("quick", seeds=(1, 2))
    assert len(grid.cells) == 5 * (12 + 4 + 7) and len(list(grid)) == len({one.key for one in grid}) == 230
    assert [row.control for row in grid.rows] == [False] * 12 + [True] * 11 and len(grid.compared) == 12
    assert {one.method.name for one in table1("smoke", methods=["coop", "pfedmoap"])} == {"coop", "pfedmoap"}
    assert all(one.rounds == 1 for one in table1("quick", seeds=(1,), rounds=1))
    with pytest.raises(UserError, match="no method in table1 'copo'; did you mean 'coop'"):
        table1("quick", methods=["copo"])
