"""Where methods must coincide, what each of them sends, and that none depends on the order of clients."""

import pytest
import torch
from test_federation import RECIPE, federation, state
from tiny import make_context, make_data

from pfedmoap.federation import Federation, Plan
from pfedmoap.methods import (
    CLAP,
    METHODS,
    ClassMeans,
    CoOp,
    FedAMP,
    FedAvgProbe,
    FedOTP,
    FedPer,
    FedPGP,
    FedProx,
    LogisticRegression,
    PFedMoAP,
    PFedPrompt,
    PromptFL,
    PromptFLFT,
    TipAdapter,
    TipAdapterF,
    ZeroShot,
    ZeroShotOwnClasses,
    ZeroShotPrior,
)

SMALL_GATE = dict(d_gating=16, heads=4, experts=2)
ALL = [ZeroShot(), CoOp(), PromptFL(), PromptFLFT(), FedPer(), FedProx(), FedAMP(), PFedPrompt(), FedOTP(), FedPGP(),
       PFedMoAP(**SMALL_GATE), PFedMoAP(gate="linear", experts=2), PFedMoAP(**SMALL_GATE, expert_choice="global"),
       PFedMoAP(**SMALL_GATE, expert_choice="random"), PFedMoAP(**SMALL_GATE | {"experts": 0}),
       PFedMoAP(**SMALL_GATE, train_prompt=False), ZeroShotOwnClasses(), ZeroShotPrior(), LogisticRegression(),
       ClassMeans(), TipAdapter(), TipAdapterF(key_steps=10), CLAP(probe_steps=10), FedAvgProbe()]


def name(method) -> str:
    return "-".join([method.name, *(str(getattr(method, item)) for item in ("gate", "expert_choice")
                                    if hasattr(method, item))])


def spatial_data():
    """Images of 16 positions around the global features of `make_data`."""
    data = make_data()

    def spread(features):
        noise = 0.3 * torch.randn(*features.shape[:-1], 16, features.shape[-1], generator=torch.manual_seed(5))
        return torch.nn.functional.normalize(features[..., None, :] + noise, dim=-1)

    return type(data)(spread(data.train_features), data.train_labels, spread(data.test_features), data.test_labels,
                      data.train_rows, data.test_rows)


def finished(context, method, rounds=3, **options) -> Federation:
    run = federation(context, method, rounds, data=spatial_data() if method.spatial else None, **options)
    for _ in run.rounds():
        pass
    return run


def test_every_method_is_here():
    assert {method.name for method in ALL} == set(METHODS)


@pytest.mark.parametrize("method", [FedProx(mu=0.0), FedPer(shared_tokens=4), FedPGP(rank=0, mu=0.0),
                                    PFedPrompt(cache_weight=0.0), PFedMoAP(gate="none")], ids=name)
def test_limits_that_are_promptfl_bit_for_bit(context, method):
    ours, promptfl = finished(context, method), finished(context, PromptFL())
    shared = ours.server.shared.get("shared", ours.server.shared.get("prompt"))
    assert torch.equal(shared, promptfl.server.shared["prompt"])
    assert [entry.losses for entry in ours.history] == [entry.losses for entry in promptfl.history]
    if not isinstance(method, PFedMoAP):  # which is tested with personal prompts
        assert [entry.accuracies for entry in ours.history] == [entry.accuracies for entry in promptfl.history]


def local_training(context, data, rounds) -> dict[int, torch.Tensor]:
    """Every client alone from its own last prompt, with a fresh optimiser in every round."""
    run = Federation(CoOp(), Plan(rounds, 1.0, RECIPE), data, context)
    for _ in range(rounds):
        run.momentum.clear()
        run.run_round()
    return {client: run.personal[client]["prompt"] for client in run.personal}


def test_fedper_with_nothing_shared_is_local_training(context):
    alone = local_training(context, make_data(), 3)
    run = finished(context, FedPer(shared_tokens=0))
    assert all(torch.equal(run.personal[client]["own"], alone[client]) for client in alone)
    assert run.history[-1].bytes_up == dict.fromkeys(range(4), 0)


def test_fedamp_with_one_client_is_local_training(context):
    data = make_data(train_sizes=(9,))
    run = federation(context, FedAMP(), 3, data=data)
    for _ in run.rounds():
        pass
    assert torch.equal(run.personal[0]["prompt"], local_training(context, data, 3)[0])


def test_a_frozen_prompt_stays_and_its_gate_learns(context):
    run = finished(context, PFedMoAP(**SMALL_GATE, train_prompt=False))
    assert all(torch.equal(own["prompt"], context.initial_prompt) for own in run.personal.values())
    untouched = finished(context, PFedMoAP(**SMALL_GATE, train_prompt=False, gate_lr=0.0))
    assert not torch.equal(run.personal[0]["gate.value.weight"], untouched.personal[0]["gate.value.weight"])


@pytest.mark.parametrize("method", ALL, ids=name)
def test_same_seed_twice_is_bit_identical(tiny_clip, method):
    one, two = (finished(make_context(tiny_clip), method, participation=0.75) for _ in range(2))
    assert state(one).keys() == state(two).keys()
    assert all(torch.equal(state(one)[key], state(two)[key]) for key in state(one))
    assert [entry.accuracies for entry in one.history] == [entry.accuracies for entry in two.history]


@pytest.mark.parametrize("method", ALL, ids=name)
def test_the_order_of_clients_and_the_size_of_cohorts_do_not_matter(context, method):
    together, reversed_in_turn = (federation(context, method, 3, data=spatial_data() if method.spatial else None,
                                             **options) for options in ({}, {"cohort_bytes": 1}))
    sample = reversed_in_turn.sample
    reversed_in_turn.sample = lambda number: sample(number)[::-1]
    for one, other in zip(together.rounds(), reversed_in_turn.rounds(), strict=True):
        assert one.losses == pytest.approx(other.losses, abs=1e-4)
    for key, tensor in state(together).items():
        torch.testing.assert_close(tensor, state(reversed_in_turn)[key], atol=1e-5, rtol=1e-4)


# What leaves a client in a later round, in bytes, for prompts of 4 tokens of width 32 in fp32; half of them for FedPer;
# 6 classes of width 32 for the probe.
SENT = {"zero_shot": {}, "coop": {}, "promptfl": {"prompt": 512}, "promptfl_ft": {"prompt": 512},
        "fedper": {"shared": 256}, "fedprox": {"prompt": 512}, "fedamp": {"prompt": 512}, "pfedprompt": {"prompt": 512},
        "fedotp": {"prompt": 512}, "fedpgp": {"prompt": 512}, "pfedmoap": {"prompt": 512}, "zs_own_classes": {},
        "zs_prior": {}, "logistic_regression": {}, "class_means": {}, "tip_adapter": {}, "tip_adapter_f": {},
        "clap": {}, "fedavg_probe": {"weights": 768}}


@pytest.mark.parametrize("method", ALL, ids=name)
def test_personal_parts_never_leave_the_client(context, method, monkeypatch):
    uploads = []
    aggregate = type(method).aggregate

    def listening(self, server, arrived, sizes):
        uploads.append(arrived)
        return aggregate(self, server, arrived, sizes)

    monkeypatch.setattr(type(method), "aggregate", listening)
    run = finished(context, method)
    for arrived in uploads[-1].values():
        assert {key: tensor.nbytes for key, tensor in arrived.items()} == SENT[method.name]
    expected = sum(SENT[method.name].values())
    assert all(size == expected for size in run.history[-1].bytes_up.values())


def test_random_experts_are_others_from_the_pool_and_change_with_the_round(context):
    run = finished(context, PFedMoAP(**SMALL_GATE, expert_choice="random"))
    draws = set()
    for number in range(1, 12):
        run.server.round = number
        experts = run.method.download(run.server, 0)["experts"]
        chosen = [client for expert in experts for client in range(4) if torch.equal(expert, run.server.pool[client])]
        assert len(set(chosen)) == 2 and 0 not in chosen
        draws.add(tuple(chosen))
    assert len(draws) > 1


def test_the_global_expert_costs_no_extra_bytes(context):
    run = finished(context, PFedMoAP(**SMALL_GATE, expert_choice="global"))
    assert run.history[-1].bytes_down == dict.fromkeys(range(4), 512)


def test_the_attentions_entropy_is_recorded_and_is_one_when_experts_are_alike(context):
    entropies = [entry.diagnostics.get("attention_entropy") for entry in
                 finished(context, PFedMoAP(**SMALL_GATE)).history]
    assert entropies[0] is None and all(0 < value <= 1 + 1e-6 for value in entropies[1:])
    alike = finished(context, PFedMoAP(**SMALL_GATE, train_prompt=False))  # all prompts are the initial one
    assert alike.history[-1].diagnostics["attention_entropy"] == pytest.approx(1, abs=1e-5)
    assert finished(context, PFedMoAP(**SMALL_GATE | {"experts": 0})).history[-1].diagnostics == {}
