"""Training in half precision, as in the released code (SPEC 9)."""

import pytest
import torch
from test_client import MOAP, batches_of, cohort_start
from test_federation import federation, finished, state
from tiny import make_context, make_data

from pfedmoap.client import Recipe, local_update
from pfedmoap.errors import PfedmoapError
from pfedmoap.methods import PromptFL
from pfedmoap.released import PAPER, released


def test_a_local_update_in_fp16_rounds_whatever_is_stored(context):
    """Against fp16 arithmetic written out, one rounding per operation of torch's SGD."""
    half = lambda x: x.half().float()  # noqa: E731
    data = make_data(train_sizes=(8,))
    recipe = Recipe(epochs=3, batch_size=4, lr=0.05, momentum=0.9, weight_decay=5e-4)
    start, fixed = cohort_start(context, [0], MOAP)
    start = {name: tensor.half() for name, tensor in start.items()}
    batches = batches_of(data, [0], recipe)
    trained = local_update(MOAP, start, fixed, batches, data.train_features, data.train_labels, recipe, context)
    weights = {name: tensor.float() for name, tensor in start.items()}
    buffers = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    for rows in batches.images[0]:
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in weights.items()}
        logits = MOAP.logits(leaves, fixed, data.train_features[0][rows][None], context)[0]
        torch.nn.functional.cross_entropy(logits, data.train_labels[rows]).backward()
        for name, leaf in leaves.items():
            gradient = half(half(leaf.grad).add(weights[name], alpha=5e-4))
            buffers[name] = half(half(0.9 * buffers[name]) + gradient)
            weights[name] = half(weights[name] - (0.01 if name.startswith("gate.") else 0.05) * buffers[name])
    for name, tensor in weights.items():
        assert trained.tensors[name].dtype == trained.momentum[name].dtype == torch.float16
        assert torch.equal(trained.tensors[name].float(), tensor), name
        assert torch.equal(trained.momentum[name].float(), buffers[name]), name


def test_everything_trained_and_sent_is_fp16_and_half_the_traffic(tiny_clip):
    runs = [finished(federation(make_context(tiny_clip), MOAP, 2, protocol=protocol))
            for protocol in (PAPER, released("precision"))]
    assert {tensor.dtype for tensor in state(runs[1]).values()} == {torch.float16}
    for full, half in zip(runs[0].history, runs[1].history, strict=True):
        for kind in ("bytes_up", "bytes_down"):
            assert getattr(full, kind) == {client: 2 * size for client, size in getattr(half, kind).items()}
    difference = (runs[0].server.shared["prompt"] - runs[1].server.shared["prompt"]).abs().max()
    assert 0 < difference < 1e-2


def test_an_overflow_in_fp16_is_reported(context):
    recipe = Recipe(epochs=2, batch_size=4, lr=1e7, momentum=0.9, weight_decay=5e-4)
    with pytest.raises(PfedmoapError, match="became nan in round 1: lower the learning rate"):
        federation(context, PromptFL(), recipe=recipe, protocol=released("precision")).run_round()
