"""What the round loop draws, counts, stores and says, on the two clients of `test_methods.by_hand`."""

import json
from dataclasses import replace

import pytest
import torch
from test_methods import by_hand, p

from pfedmoap import federation, graphs
from pfedmoap.client import Recipe
from pfedmoap.errors import PfedmoapError
from pfedmoap.federation import Plan, Round
from pfedmoap.methods import CoOp, FedOTP, FedPGP, PFedMoAP, PromptFL, PromptFLFT
from pfedmoap.privacy import Privacy, add_noise
from pfedmoap.randomness import generator

MOAP = PFedMoAP(d_gating=2, heads=1, experts=1)


def test_a_snapshot_is_everything_by_its_path():
    run = by_hand(CoOp(), rounds=2, momentum=0.5)
    tensors, state = run.snapshot()
    expected = {f"{kind}/{client}/prompt": getattr(run, kind)[client]["prompt"]
                for kind in ("personal", "momentum") for client in (0, 1)}
    assert tensors.keys() == expected.keys() and all(tensors[path] is expected[path] for path in tensors)
    assert state["epochs"] == [2, 2] and [entry["number"] for entry in state["history"]] == [1, 2]
    run = by_hand(MOAP, rounds=2)
    tensors, _ = run.snapshot()
    assert tensors["shared/prompt"] is run.server.shared["prompt"] and tensors["pool/1"] is run.server.pool[1]
    assert tensors["personal/0/gate.key.bias"] is run.personal[0]["gate.key.bias"]
    assert {path.partition("/")[0] for path in tensors} == {"shared", "pool", "personal"}


@pytest.mark.parametrize("method", [CoOp(), MOAP], ids=lambda method: method.name)
def test_restored_it_is_the_same_run(method):
    run, again = by_hand(method, rounds=2, momentum=0.5), by_hand(method, rounds=0)
    run.history[1].sigmas[1] = 0.25
    tensors, state = run.snapshot()
    again.restore(tensors, json.loads(json.dumps(state)))
    assert again.history == run.history and again.history[1].sigmas == {1: 0.25}
    assert again.epochs == [2, 2] and again.server.round == 3
    assert list(again.server.pool.entries) == list(run.server.pool.entries)
    restored, _ = again.snapshot()
    assert restored.keys() == tensors.keys() and all(restored[path] is tensors[path] for path in tensors)


def test_the_mean_accuracy_leaves_out_who_was_not_reached():
    assert Round(1, [], accuracies=[0.5, None, 1.0]).accuracy == 0.75


def test_the_noise_follows_from_steps_rate_momentum_bound_and_rounds(monkeypatch):
    """2 C lr sum_k (1 - mu^k) / (1 - mu): client 0 takes 3 steps of one image, client 1 one."""
    run = by_hand(CoOp(), rounds=0)
    assert run.sigma(0) == 0.0
    monkeypatch.setattr(Privacy, "sigma", lambda self, sensitivity, uploads: (sensitivity, uploads))
    run.plan = Plan(10, 1.0, Recipe(1, 1, 0.1, 0.5, 0.0, clip=1.5), Privacy(25.0, clip=1.5))
    assert run.sigma(0) == (pytest.approx(2 * 1.5 * 0.1 * (1 + 1.5 + 1.75)), 10)
    assert run.sigma(1) == (pytest.approx(2 * 1.5 * 0.1), 10)


@pytest.mark.parametrize("tested", ["own", "uploaded"])
def test_noise_is_on_what_is_sent_and_on_what_is_kept_if_that_is_tested(monkeypatch, tested):
    monkeypatch.setattr(Privacy, "sigma", lambda self, sensitivity, uploads: sensitivity)
    clear, run = by_hand(MOAP), by_hand(MOAP, rounds=0)
    run.plan = replace(run.plan, privacy=Privacy(25.0, tested=tested))
    result = run.run_round()
    assert result.sigmas == {0: run.sigma(0), 1: run.sigma(1)} and run.sigma(0) > 0
    for client in (0, 1):
        noisy = add_noise({"prompt": clear.server.pool[client]}, run.sigma(client), 1, 1, client)["prompt"]
        assert torch.equal(run.server.pool[client], noisy) and not torch.equal(noisy, clear.server.pool[client])
        kept = noisy if tested == "uploaded" else clear.server.pool[client]
        assert torch.equal(run.personal[client]["prompt"], kept)


def test_a_clipped_gradient_has_the_bounds_length():
    """At p = 0 the gradient of a client's image f is -2 f; a bound of 0.5 leaves -0.5 f, and one of 5 all."""
    for clip, length in ((0.5, 0.5), (5.0, 2.0)):
        run, unsent = by_hand(MOAP, rounds=0), by_hand(CoOp(), rounds=0)
        for each in (run, unsent):
            each.plan = replace(each.plan, recipe=replace(each.plan.recipe, clip=clip))
            each.run_round()
        torch.testing.assert_close(run.server.pool[0], p(0.1 * length, 0.0))
        torch.testing.assert_close(unsent.personal[0]["prompt"], p(0.2, 0.0))  # what stays needs no bound


def drawn_for(monkeypatch, method, rounds, **options):
    """The arguments that the batches of a run are drawn with, one draw after the other."""
    draws, draw = [], federation.draw_batches

    def listening(clients, shards, recipe, **settings):
        rows = [rows.tolist() for rows in shards]
        draws.append({"clients": clients, "rows": rows, "epochs": recipe.epochs} | settings)
        return draw(clients, shards, recipe, **settings)

    monkeypatch.setattr(federation, "draw_batches", listening)
    by_hand(method, rounds=rounds, epochs=2, **options)
    return draws


def test_batches_are_drawn_by_seed_round_and_epochs_so_far(monkeypatch):
    alike = {"clients": [0, 1], "rows": [[0, 1, 2], [3]], "seed": 1, "views": 1}
    assert drawn_for(monkeypatch, PromptFL(), 2) == [
        alike | {"epochs": 2, "round": 1, "past_epochs": [0, 0], "total_epochs": None},
        alike | {"epochs": 2, "round": 2, "past_epochs": [2, 2], "total_epochs": None}]


def test_a_kept_optimisers_schedule_is_as_long_as_the_run(monkeypatch):
    assert [draw["total_epochs"] for draw in drawn_for(monkeypatch, CoOp(), 3)] == [6, 6, 6]


def test_fine_tuning_is_one_more_round_of_its_own_length(monkeypatch):
    draws = drawn_for(monkeypatch, PromptFLFT(final_epochs=3), 2)
    assert [(draw["round"], draw["epochs"], draw["past_epochs"]) for draw in draws] == [
        (1, 2, [0, 0]), (2, 2, [2, 2]), (3, 3, [4, 4])]


def test_what_is_fine_tuned_counts_as_sent_to_everyone():
    run, result = by_hand(PromptFLFT(), rounds=0), Round(1, [0], bytes_down={0: 5})
    downloads = run.final_downloads(result)
    assert result.bytes_down == {0: 5 + 8, 1: 8} and list(downloads) == [0, 1]


def test_a_loss_that_is_not_a_number_is_told_with_its_round_and_rate():
    run = by_hand(PromptFLFT(), rounds=0, lr=0.125)
    with pytest.raises(PfedmoapError) as error:
        run.fine_tune({0: {"prompt": p(float("nan"), 0.0)}}, 4)
    assert str(error.value) == ("The loss of client 0 became nan in round 5: lower the learning rate (0.125), or check "
                                "its images and features.")


def test_time_is_that_of_training_and_of_the_tests(monkeypatch):
    clock = iter([10.0, 13.0, 20.0, 24.0])  # a round starts, ends its training, starts its tests, ends them
    run = by_hand(PromptFL(), rounds=0)
    monkeypatch.setattr(federation.time, "perf_counter", lambda: next(clock))
    assert run.run_round().seconds == {"train": 3.0, "evaluate": 4.0}


def test_a_cohort_is_as_large_as_its_memory_allows():
    run = by_hand(PromptFL(), rounds=0)  # a prompt takes 1000 bytes
    for room, size in ((1, 1), (1999, 1), (2000, 2), (2**31, 2147483)):
        run.plan = replace(run.plan, cohort_bytes=room)
        assert run.cohort_size == size
    assert Plan(1, 1.0, run.plan.recipe).cohort_bytes == 2**31


def test_cohorts_are_of_clients_that_train_alike_longest_first():
    run, prompts = by_hand(PromptFL(), rounds=0), {"prompt": torch.zeros(1, 2)}
    run.data = replace(run.data, train_rows=run.data.train_rows[::-1])
    run.plan = replace(run.plan, recipe=Recipe(1, 1, 0.1, 0.0, 0.0))  # client 0 takes one step, client 1 three
    assert [cohort.clients for cohort in run.cohorts({0: prompts, 1: prompts}, 1)] == [(1, 0)]
    assert [len(cohort) for cohort in run.cohorts({1: prompts}, 1)] == [1]
    assert list(run.cohorts({0: {}}, 1)) == []  # nothing to train


def test_cohorts_come_in_the_order_of_what_they_train():
    run = by_hand(PromptFL(), rounds=0)
    downloads = {0: {"second": torch.zeros(1, 2)}, 1: {"first": torch.zeros(1, 2)}}
    assert [cohort.clients for cohort in run.cohorts(downloads, 1)] == [(1,), (0,)]


def test_a_client_starts_as_itself_by_name():
    run = by_hand(FedPGP(rank=1), rounds=0)
    start, context = run.start(1, {"prompt": p(0.0, 0.0)}), run.context
    assert list(start) == ["left", "prompt", "right"]
    assert torch.equal(start["left"], FedPGP(rank=1).start({}, {}, 1, context)["left"])


def test_the_server_knows_clients_seed_and_round():
    run = by_hand(PromptFL(), rounds=0)
    run.context = replace(run.context, seed=5)
    run = federation.Federation(run.method, replace(run.plan, rounds=3, participation=0.5), run.data, run.context)
    assert (run.server.clients, run.server.seed, run.server.round) == (2, 5, 1)
    draws = [run.sample(number) for number in (1, 2, 3)]
    assert [entry.selected for entry in run.rounds()] == draws and run.server.round == 4
    assert draws == [generator(5, "sample", number).choice(2, 1, replace=False).tolist() for number in (1, 2, 3)]


def test_what_waits_for_its_results_is_never_captured(monkeypatch):
    monkeypatch.setattr(graphs, "capture_for", lambda device: pytest.fail("captured"))
    by_hand(FedOTP())
    with pytest.raises(pytest.fail.Exception):
        by_hand(PromptFL())
