"""The cohort's local update: against torch.optim.SGD, against its clients one at a time, and by hand."""

import math

import numpy as np
import pytest
import torch
from tiny import make_data

from pfedmoap.client import Recipe, count_steps, draw_batches, local_update
from pfedmoap.methods import PFedMoAP, PromptFL
from pfedmoap.randomness import generator
from pfedmoap.server import Pool, Server

RECIPE = Recipe(epochs=3, batch_size=4, lr=0.05, momentum=0.9, weight_decay=5e-4)
MOAP = PFedMoAP(d_gating=16, heads=4, experts=2)


def batches_of(data, clients, recipe=RECIPE, **options):
    settings = dict(seed=1, round=2, past_epochs=[0] * len(clients), views=len(data.train_features)) | options
    return draw_batches(clients, [data.train_rows[client] for client in clients], recipe, **settings)


def cohort_start(context, clients, method):
    """Tensors of clients in their second participation, lent each other's prompts."""
    pool = {client: context.initial_prompt + 0.1 * client for client in range(4)}
    server = Server(method.initial_shared(context), Pool(pool), clients=4)
    downloads = [method.download(server, client) for client in clients]
    starts = [method.start(download, {}, client, context) for client, download in zip(clients, downloads, strict=True)]
    start = {name: torch.stack([part[name] for part in starts]) for name in starts[0]}
    return start, method.fixed(start, downloads, context)


def update(context, data, clients, method, recipe=RECIPE, **options):
    start, fixed = cohort_start(context, clients, method)
    batches = batches_of(data, clients, recipe, **options)
    return local_update(method, start, fixed, batches, data.train_features, data.train_labels, recipe, context)


@pytest.mark.parametrize("method", [PromptFL(), MOAP], ids=lambda method: method.name)
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_cohort_equals_its_clients_one_at_a_time(context, method, schedule):
    data = make_data(train_sizes=(12, 9, 5, 3))  # 3, 2, 1 full batches and one of 3 images: unequal steps
    recipe = Recipe(3, 4, 0.05, 0.9, 5e-4, schedule)
    together = update(context, data, [0, 1, 2, 3], method, recipe)
    for client in range(4):
        alone = update(context, data, [client], method, recipe)
        assert alone.losses[0] == pytest.approx(together.losses[client].item(), abs=1e-5)
        for name, tensor in alone.tensors.items():
            torch.testing.assert_close(together.tensors[name][client], tensor[0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(together.momentum[name][client], alone.momentum[name][0], atol=1e-4, rtol=1e-4)


def test_one_client_equals_torchs_sgd(context):
    data = make_data(train_sizes=(9, 4))
    ours = update(context, data, [0], MOAP)
    start, fixed = cohort_start(context, [0], MOAP)
    model = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
    gate = [tensor for name, tensor in model.items() if name.startswith("gate.")]
    optimizer = torch.optim.SGD([{"params": [model["prompt"]], "lr": 0.05}, {"params": gate, "lr": 0.01}],
                                momentum=0.9, weight_decay=5e-4)
    losses = []
    for rows in batches_of(data, [0]).images[0]:
        optimizer.zero_grad()
        logits = MOAP.logits(model, fixed, data.train_features[0][rows][None], context)[0]
        losses.append(torch.nn.functional.cross_entropy(logits, data.train_labels[rows]))
        losses[-1].backward()
        optimizer.step()
    assert len(losses) == 6 and ours.losses.tolist() == [pytest.approx(sum(losses).item() / 6, rel=1e-5)]
    for name, tensor in model.items():
        torch.testing.assert_close(ours.tensors[name], tensor.detach(), atol=1e-6, rtol=1e-5)


def test_clients_out_of_batches_do_not_move_any_more(context):
    """With a huge weight decay and momentum, a client that is merely masked would drift."""
    data = make_data(train_sizes=(40, 4))
    recipe = Recipe(epochs=1, batch_size=4, lr=0.05, momentum=0.99, weight_decay=1.0)
    together = update(context, data, [0, 1], PromptFL(), recipe)
    alone = update(context, data, [1], PromptFL(), recipe)
    torch.testing.assert_close(together.tensors["prompt"][1], alone.tensors["prompt"][0], atol=1e-6, rtol=1e-5)


def test_the_start_is_left_alone(context):
    data = make_data(train_sizes=(8,))
    start, fixed = cohort_start(context, [0], MOAP)
    before = {name: tensor.clone() for name, tensor in start.items()}
    local_update(MOAP, start, fixed, batches_of(data, [0]), data.train_features, data.train_labels, RECIPE, context)
    assert all(torch.equal(before[name], start[name]) for name in start)


def test_experts_are_frozen_and_prompt_and_gate_move(context):
    data = make_data(train_sizes=(8, 8))
    start, fixed = cohort_start(context, [0, 1], MOAP)
    experts = fixed["experts"].clone()
    trained = update(context, data, [0, 1], MOAP, Recipe(3, 4, 0.05, 0.9, weight_decay=0.0))
    assert torch.equal(experts, fixed["experts"])
    moved = {name: (trained.tensors[name] - tensor).abs().max().item() for name, tensor in start.items()}
    for name in ("prompt", "query.weight", "query.bias", "key.weight", "value.weight", "output.weight"):
        assert moved[name if name == "prompt" else f"gate.{name}"] > 1e-5, name
    for name in ("key.bias", "value.bias", "output.bias"):  # they shift all scores, or all classes, alike
        assert moved[f"gate.{name}"] < 1e-5, name


def test_steps():
    assert [count_steps(images, RECIPE) for images in (1, 3, 4, 7, 8)] == [3, 3, 3, 3, 6]


def test_batches_use_every_image_at_most_once_an_epoch_and_drop_the_rest():
    data = make_data(train_sizes=(11, 6, 2))
    batches = batches_of(data, [0, 1, 2])
    assert batches.steps == (6, 3, 3)
    assert batches.images.shape == (3, 6, 4)
    assert batches.present.tolist() == [[True] * 4, [True] * 4, [True, True, False, False]]
    for epoch in range(3):
        seen = batches.images[0, 2 * epoch : 2 * epoch + 2].flatten().tolist()
        assert len(set(seen)) == 8 and set(seen) <= set(data.train_rows[0])
        assert set(batches.images[2, epoch, :2].tolist()) == set(data.train_rows[2])
    assert batches.images[0, :2].tolist() != batches.images[0, 2:4].tolist()  # shuffled anew


def test_batches_are_drawn_from_seed_round_client_and_epoch():
    """What committed results rest on; padding is the first row's, and counts nowhere."""
    data = make_data(train_sizes=(11, 6, 2))
    batches = batches_of(data, [0, 1, 2])
    for client, (size, per_epoch) in enumerate([(4, 2), (4, 1), (2, 1)]):
        for epoch in range(3):
            order = generator(1, "batches", 2, client, epoch).permutation(data.train_rows[client])[: per_epoch * size]
            at = slice(epoch * per_epoch, (epoch + 1) * per_epoch)
            assert batches.images[client, at, :size].tolist() == order.reshape(per_epoch, size).tolist()
        assert not batches.images[client, 3 * per_epoch :].any() and not batches.images[client, :, size:].any()
    assert batches.rates.tolist() == [[1.0] * 6] * 3 and batches.rates.dtype == torch.float32
    assert batches.images.dtype == batches.views.dtype == torch.int64 and not batches.views.any()


def test_batches_depend_on_seed_round_and_client_alone():
    data = make_data(train_sizes=(8, 8))
    both, second = batches_of(data, [0, 1]), batches_of(data, [1])
    assert torch.equal(both.images[1], second.images[0])
    assert not torch.equal(second.images, batches_of(data, [1], round=3).images)
    assert not torch.equal(second.images, batches_of(data, [1], seed=2).images)


def test_every_client_has_a_shard():
    with pytest.raises(ValueError):
        draw_batches([0, 1], [np.arange(8)], RECIPE, seed=1, round=1, past_epochs=[0, 0], views=1)


def test_views_follow_the_clients_running_epoch():
    data = make_data(train_sizes=(8, 4), views=5)
    views = batches_of(data, [0, 1], past_epochs=[6, 3]).views
    assert views.tolist() == [[1, 1, 2, 2, 3, 3], [3, 4, 0, 0, 0, 0]]


def test_the_cosine_schedule_is_per_epoch_and_restarts_or_goes_on():
    data = make_data(train_sizes=(8,))
    recipe = Recipe(2, 4, 0.1, 0.9, 0.0, "cosine")
    restarted = batches_of(data, [0], recipe, past_epochs=[3]).rates
    assert restarted.tolist() == [[1, 1, 0.5, 0.5]]
    going_on = batches_of(data, [0], recipe, past_epochs=[2], total_epochs=4).rates
    expected = [0.5, 0.5] + [(1 + math.cos(math.pi * 0.75)) / 2] * 2
    np.testing.assert_allclose(going_on[0], expected, rtol=1e-6)
