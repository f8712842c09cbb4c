"""Clients that take turns: one optimiser for all, and a pool that changes inside a round (SPEC 9)."""

import dataclasses
import json
import math

import pytest
import torch
from test_client import MOAP, batches_of, cohort_start
from test_federation import assert_equal, federation, finished, state
from tiny import make_data

from pfedmoap.client import Cohort, Recipe
from pfedmoap.federation import Federation
from pfedmoap.methods import CoOp, FedAMP, PFedMoAP, PromptFL, PromptFLFT
from pfedmoap.released import PAPER, released
from pfedmoap.released.federation import in_turn
from pfedmoap.released.optimizer import SharedOptimizer
from pfedmoap.server import Pool, Server

FIVE_EPOCHS = Recipe(epochs=5, batch_size=4, lr=0.002, momentum=0.9, weight_decay=5e-4)


# --- the shared optimiser


def rates_of(run: Federation, monkeypatch) -> list[float]:
    """Learning rates of the prompt, local epoch by local epoch in the order in which they are trained."""
    seen = []

    def watching(cohort):
        seen.append(cohort.recipe.lr)
        assert torch.equal(cohort.batches.rates, torch.ones_like(cohort.batches.rates)) and len(cohort) == 1
        return train(cohort)

    train = Cohort.train
    monkeypatch.setattr(Cohort, "train", watching)
    finished(run)
    return seen


@pytest.mark.parametrize("method", [PromptFL(), CoOp(), MOAP], ids=lambda method: method.name)
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_shared_schedule_of_four_clients_over_two_rounds(context, monkeypatch, method, schedule):
    recipe = dataclasses.replace(FIVE_EPOCHS, schedule=schedule)
    rates = rates_of(federation(context, method, 2, recipe=recipe, protocol=released("optimizer")), monkeypatch)
    first, second = [0.00181, 0.002, 0.00181, 0.00131, 0.00069], [0.00019, 0, 0.00019, 0.00069, 0.00131]
    assert [round(rate, 5) for rate in rates[5:]] == second + 3 * (first + second)
    assert rates[0] == 1e-5 and [round(rate, 5) for rate in rates[1:5]] == first[1:]
    for s, rate in enumerate(rates[1:], start=1):
        assert rate == pytest.approx(0.002 * (1 + math.cos(math.pi * (s - 1) / 5)) / 2, abs=1e-12)


def test_the_shared_optimiser_is_one_of_torchs(context):
    """Two clients in turn, prompt and gate, against torch.optim.SGD with a learning rate per epoch."""
    data = make_data(train_sizes=(9, 12))
    start, fixed = cohort_start(context, [0, 1], MOAP)
    shared = SharedOptimizer()
    weights = {name: tensor[0].clone().requires_grad_() for name, tensor in start.items()}
    gate = [tensor for name, tensor in weights.items() if name.startswith("gate.")]
    optimizer = torch.optim.SGD([{"params": [weights["prompt"]], "lr": 0.002}, {"params": gate, "lr": 0.01}],
                                momentum=0.9, weight_decay=5e-4)
    s = 0
    for client, steps in ((0, 2), (1, 3)):
        alone, own = ({name: tensor[client : client + 1] for name, tensor in part.items()} for part in (start, fixed))
        batches = batches_of(data, [client], FIVE_EPOCHS)
        cohort = Cohort((client,), MOAP, alone, own, batches, data.train_features, data.train_labels, FIVE_EPOCHS,
                        context)
        ours = shared.train(cohort, period=5)
        with torch.no_grad():
            for name, tensor in weights.items():
                tensor.copy_(alone[name][0])
        for step, rows in enumerate(batches.images[0]):
            s += step % steps == 0
            optimizer.param_groups[0]["lr"] = 1e-5 if s == 1 else 0.001 * (1 + math.cos(math.pi * (s - 2) / 5))
            optimizer.zero_grad()
            model = {name: tensor[None] for name, tensor in weights.items()}
            logits = MOAP.logits(model, own, data.train_features[0][rows][None], context)[0]
            torch.nn.functional.cross_entropy(logits, data.train_labels[rows]).backward()
            optimizer.step()
        for name, tensor in weights.items():
            torch.testing.assert_close(ours.tensors[name][0], tensor.detach(), atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(shared.momentum[name], optimizer.state[tensor]["momentum_buffer"], atol=1e-5,
                                       rtol=1e-4)
    assert shared.epochs == s == 10


@pytest.mark.parametrize("method", [CoOp(), PromptFL(), PromptFLFT(), MOAP, FedAMP()], ids=lambda method: method.name)
@pytest.mark.parametrize("switches", [("optimizer",), ("round_order",), ("precision",), ("optimizer", "round_order")])
def test_switches_resume_bit_for_bit(context, method, switches):
    whole, first, second = (federation(context, method, participation=0.75, protocol=released(*switches))
                            for _ in range(3))
    finished(whole)
    for _ in range(2):
        first.run_round()
    tensors, plain = first.snapshot()
    second.restore({name: tensor.clone() for name, tensor in tensors.items()}, json.loads(json.dumps(plain)) | {
        "history": plain["history"]})
    assert_equal(state(whole), state(finished(second)))
    assert [entry.losses for entry in whole.history] == [entry.losses for entry in second.history]
    if "optimizer" in switches:
        assert whole.shared_optimizer.epochs == second.shared_optimizer.epochs > 0


# --- clients in sequence


class Watching(PFedMoAP):
    """Notes what clients download and start from, in the order in which they train."""

    def download(self, server, client):
        self.seen.append((client, super().download(server, client)))
        return self.seen[-1][1]

    def start(self, download, personal, client, context):
        started = super().start(download, personal, client, context)
        self.starts.append((client, started))
        return started

    @property
    def seen(self) -> list:
        return self.__dict__.setdefault("_seen", [])

    @property
    def starts(self) -> list:
        return self.__dict__.setdefault("_starts", [])


@pytest.mark.parametrize("sequential", [False, True])
def test_later_clients_see_what_earlier_ones_have_just_uploaded(context, sequential):
    method = Watching(d_gating=16, heads=4, experts=3)
    run = federation(context, method, 2, protocol=released("round_order") if sequential else PAPER)
    run.run_round()
    pool, averaged = dict(run.server.pool.entries), run.server.shared["prompt"].clone()
    method.seen.clear()
    method.starts.clear()
    run.run_round()
    seen, new = method.seen[:4], run.server.pool.entries
    order = in_turn([0, 1, 2, 3], context.seed, 2) if sequential else [0, 1, 2, 3]
    assert [client for client, _ in seen] == order
    for place, (client, download) in enumerate(seen):
        assert torch.equal(download["prompt"], averaged)  # the global prompt changes at the end of the round
        changed = order[:place] if sequential else []
        expected = [new[other] if other in changed else pool[other] for other in range(4) if other != client]
        ours = sorted(download["experts"].flatten(1).tolist())
        assert ours == sorted(torch.stack(expected).flatten(1).tolist())


def test_the_pool_inside_a_round_by_hand():
    """Prompts of one number; clients 0, 1, 2 hold 0, 4, 10 and take turns in this order, with one expert each."""
    method, server = PFedMoAP(experts=1), Server({"prompt": torch.zeros(1, 1)}, clients=3)
    server.pool = Pool({client: torch.full((1, 1), value) for client, value in enumerate((0.0, 4.0, 10.0))})
    assert method.download(server, 0)["experts"].item() == 4.0
    method.enter(server, {0: {"prompt": torch.full((1, 1), 9.0)}})  # client 0 goes from 0 to 9, away from client 1 ...
    assert method.download(server, 1)["experts"].item() == 9.0  # ... which is still nearer to it (5) than to 10 (6)
    method.enter(server, {1: {"prompt": torch.full((1, 1), -1.0)}})
    assert method.download(server, 2)["experts"].item() == 9.0
    assert server.shared["prompt"].item() == 0.0


def test_a_first_gate_is_the_one_that_was_trained_last(context):
    method = Watching(d_gating=16, heads=4, experts=2)
    run = federation(context, method, 3, protocol=released("round_order"))
    run.run_round()  # nobody has a gate
    method.starts.clear()
    run.run_round()
    started = method.starts[:4]  # before the tests
    gates = [{name: tensor for name, tensor in start.items() if name.startswith("gate.")} for _, start in started]
    assert_equal(gates[0], method._initial_gate(started[0][0], context))
    for place in (1, 2, 3):
        previous = run.personal[started[place - 1][0]]
        assert_equal(gates[place], {name: previous[name] for name in gates[place]})
    own = {client: dict(personal) for client, personal in run.personal.items()}
    method.starts.clear()
    run.run_round()
    for client, start in method.starts[:4]:  # from now on everyone has a gate of its own
        assert all(torch.equal(start[name], own[client][name]) for name in gates[0])


def test_turns_are_drawn_from_seed_and_round():
    orders = [in_turn(list(range(6)), 1, number) for number in range(1, 9)]
    assert all(sorted(order) == list(range(6)) for order in orders) and len(set(map(tuple, orders))) > 5
    assert in_turn(list(range(6)), 1, 3) == orders[2] != in_turn(list(range(6)), 2, 3)
