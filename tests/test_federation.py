"""The round loop: who trains, what they get, what is tested, and that a run can be cut anywhere."""

import copy

import numpy as np
import pytest
import torch
from tiny import make_context, make_data

from pfedmoap.client import Recipe
from pfedmoap.errors import PfedmoapError
from pfedmoap.federation import Federation, Plan
from pfedmoap.methods import CoOp, PFedMoAP, PromptFL, ZeroShot
from pfedmoap.randomness import generator
from pfedmoap.released import PAPER
from pfedmoap.released import federation as released
from pfedmoap.server import Pool

RECIPE = Recipe(epochs=2, batch_size=4, lr=0.05, momentum=0.9, weight_decay=5e-4)
MOAP = PFedMoAP(d_gating=16, heads=4, experts=2)
METHODS = [ZeroShot(), CoOp(), PromptFL(), MOAP]


def federation(
    context, method=MOAP, rounds=4, participation=1.0, data=None, recipe=RECIPE, protocol=PAPER, **plan
) -> Federation:
    return released.federation_for(method, Plan(rounds, participation, recipe, **plan), data or make_data(), context,
                               protocol)


def finished(run: Federation) -> Federation:
    for _ in run.rounds():
        pass
    return run


def state(run: Federation) -> dict[str, torch.Tensor]:
    return run.snapshot()[0]


def assert_equal(one: dict, other: dict):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def assert_close(one: dict, other: dict, tolerance=1e-5):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("participation", [1.0, 0.5])
def test_same_seed_twice_is_bit_identical_and_another_seed_is_not(tiny_clip, method, participation):
    def final(seed):
        run = federation(make_context(tiny_clip, seed), method, participation=participation)
        histories = [(entry.selected, entry.losses, entry.accuracies) for entry in run.rounds()]
        return state(run), histories

    assert_equal(final(1)[0], final(1)[0])
    assert final(1)[1] == final(1)[1]
    if method.name != "zero_shot":
        assert any(not torch.equal(tensor, final(2)[0].get(name, tensor + 1)) for name, tensor in final(1)[0].items())


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("cut", [1, 3])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(context, method, cut):
    whole, first, second = (federation(context, method, participation=0.75) for _ in range(3))
    for _ in whole.rounds():
        pass
    for _ in range(cut):
        first.run_round()
    second.restore(*copy.deepcopy(first.snapshot()))
    for _ in second.rounds():
        pass
    assert_equal(state(whole), state(second))
    assert [entry.accuracies for entry in whole.history] == [entry.accuracies for entry in second.history]
    assert [entry.losses for entry in whole.history] == [entry.losses for entry in second.history]
    assert whole.epochs == second.epochs


@pytest.mark.parametrize("method", [CoOp(), PromptFL(), MOAP], ids=lambda method: method.name)
def test_a_cohort_trained_in_chunks_equals_one_batch(context, method):
    together, in_turn = federation(context, method, rounds=3), federation(context, method, rounds=3, cohort_bytes=1)
    for _ in zip(together.rounds(), in_turn.rounds(), strict=True):
        pass
    assert_close(state(together), state(in_turn))


def test_sampling_is_without_replacement_and_at_least_one(context):
    data = make_data(train_sizes=[2] * 50)
    run = federation(context, participation=0.3, data=data)
    draws = [run.sample(number) for number in range(1, 40)]
    assert all(len(set(draw)) == 15 and draw == sorted(draw) for draw in draws)
    assert len({tuple(draw) for draw in draws}) > 30
    assert set().union(*draws) == set(range(50))
    assert draws[4] == sorted(generator(context.seed, "sample", 5).choice(50, 15, replace=False))
    assert len(federation(context, participation=0.001, data=data).sample(1)) == 1
    assert len(federation(context, participation=0.58, data=data).sample(1)) == 29  # 0.58 * 50 is 28.999...
    assert federation(context, CoOp(), participation=0.3, data=data).sample(1) == list(range(50))


def test_the_first_participation_has_no_gate_and_later_ones_have(context):
    run = federation(context)
    first = run.run_round()
    assert all(set(personal) == {"prompt"} for personal in run.personal.values())
    prompt_bytes = context.initial_prompt.nbytes
    assert first.bytes_down == dict.fromkeys(range(4), prompt_bytes)
    second = run.run_round()
    assert all("gate.query.weight" in personal for personal in run.personal.values())
    assert second.bytes_down == dict.fromkeys(range(4), 3 * prompt_bytes)  # the global prompt and two experts
    assert second.bytes_up == dict.fromkeys(range(4), prompt_bytes)  # the gate stays


def test_newcomers_train_beside_gated_clients(context):
    """A round with both kinds equals the same clients in separate rounds from the same state."""
    run = federation(context)
    run.server.pool = Pool({0: context.initial_prompt + 0.1, 1: context.initial_prompt - 0.1})
    run.sample = lambda number: [0, 2]
    mixed = run.run_round()
    for client in (0, 2):
        alone = federation(context)
        alone.server.pool = Pool({0: context.initial_prompt + 0.1, 1: context.initial_prompt - 0.1})
        alone.sample = lambda number, client=client: [client]
        assert alone.run_round().losses[client] == pytest.approx(mixed.losses[client], abs=1e-5)
        torch.testing.assert_close(alone.server.pool[client], run.server.pool[client], atol=1e-5, rtol=1e-5)
    assert set(run.personal[2]) == {"prompt"} and "gate.key.bias" in run.personal[0]


def test_rounds_are_synchronous(context):
    """Whatever a client learns in a round, the others' downloads are from the state before it."""
    seen = {}

    class Watching(PFedMoAP):
        def fixed(self, model, downloads, context, cached=None):
            seen.setdefault(len(seen), [download.get("experts") for download in downloads])
            return super().fixed(model, downloads, context, cached)

    run = federation(context, Watching(d_gating=16, heads=4, experts=3), cohort_bytes=1)  # one client at a time
    run.run_round()
    before = {client: prompt.clone() for client, prompt in run.server.pool.entries.items()}
    seen.clear()
    run.run_round()
    lent = [row for experts in list(seen.values())[:4] for row in experts[0]]
    assert len(lent) == 12
    assert all(any(torch.equal(row, prompt) for prompt in before.values()) for row in lent)


def test_without_gate_prompts_equal_promptfls_and_tests_are_personal(context):
    promptfl, gateless = federation(context, PromptFL()), federation(context, PFedMoAP(gate="none"))
    for _ in zip(promptfl.rounds(), gateless.rounds(), strict=True):
        assert torch.equal(promptfl.server.shared["prompt"], gateless.server.shared["prompt"])
    assert [e.losses for e in promptfl.history] == [e.losses for e in gateless.history]
    for client in range(4):
        model = gateless.method.tested({"prompt": promptfl.server.shared["prompt"]}, gateless.personal[client], client,
                                       context)
        assert torch.equal(model["prompt"], gateless.server.pool[client])


def test_evaluation_uses_the_personal_model_and_only_trained_gates(context):
    run = federation(context, participation=0.5, rounds=1)
    result = run.run_round()
    outsider = next(client for client in range(4) if client not in result.selected)
    expected = []
    for client in range(4):
        prompt = run.server.shared["prompt"] if client == outsider or client not in run.server.pool else \
            run.server.pool[client]
        rows = run.data.test_rows[client]
        logits = run.data.test_features[rows] @ context.text(prompt[None])[0].T
        expected.append((logits.argmax(1) == run.data.test_labels[rows]).float().mean().item())
    assert result.accuracies == pytest.approx(expected)
    assert result.accuracy == pytest.approx(np.mean(expected))


def test_accuracy_is_each_clients_own_mean_whatever_the_sizes(context):
    data = make_data(train_sizes=(6, 6), tests=150)  # more than one test batch
    data.test_rows[1] = data.test_rows[1][:1]
    run = federation(context, ZeroShot(), rounds=1, data=data)
    accuracies = run.run_round().accuracies
    for client, rows in enumerate(data.test_rows):
        correct = (data.test_features[rows] @ context.handwritten.T).argmax(1) == data.test_labels[rows]
        assert accuracies[client] == pytest.approx(correct.float().mean().item())


def test_coop_keeps_its_optimiser_and_never_communicates(context):
    run = federation(context, CoOp(), rounds=3)
    for result in run.rounds():
        assert set(result.bytes_up.values()) == set(result.bytes_down.values()) == {0}
    longer = federation(context, CoOp(), rounds=3)
    for client in range(4):
        assert set(run.momentum[client]) == {"prompt"}
    longer.run_round()
    longer.momentum.clear()  # a restarted optimiser gives another result
    longer.run_round()
    assert not torch.equal(longer.personal[0]["prompt"], run.personal[0]["prompt"])


def test_experts_per_client_may_differ(context):
    run = federation(context, PFedMoAP(d_gating=16, heads=4, experts=(0, 1, 3, 2)), rounds=2)
    result = list(run.rounds())[-1]
    size = context.initial_prompt.nbytes
    assert result.bytes_down == {0: size, 1: 2 * size, 2: 4 * size, 3: 3 * size}
    for client, count in enumerate((0, 1, 3, 2)):  # each as if all had its number
        alike = federation(context, PFedMoAP(d_gating=16, heads=4, experts=count), rounds=2)
        for _ in alike.rounds():
            pass
        torch.testing.assert_close(run.server.pool[client], alike.server.pool[client], atol=1e-5, rtol=1e-5)


def test_a_loss_that_is_not_a_number_names_client_round_and_remedy(context):
    data = make_data()
    data.train_features[0, data.train_rows[2][0]] = float("nan")
    with pytest.raises(PfedmoapError, match=r"client 2 became nan in round 1: lower the learning rate"):
        federation(context, data=data).run_round()
