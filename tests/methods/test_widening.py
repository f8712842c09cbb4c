"""Two classes that clients have images of become four: what is known of the other two, by hand."""

import math
from dataclasses import replace

import pytest
import torch

from pfedmoap.method import OwnImages
from pfedmoap.methods import (
    CLAP,
    ClassMeans,
    Context,
    FedAvgProbe,
    PFedPrompt,
    TipAdapter,
    ZeroShotOwnClasses,
    ZeroShotPrior,
)

NAMES = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.6, 0.8]])  # features of the four
FOUR = Context(None, NAMES, 2.0, torch.zeros(1, 3), 1)
TWO = replace(FOUR, handwritten=NAMES[:2])
MODEL = {"prompt": torch.tensor([[[0.5, 0.5, 0.0]], [[0.1, 0.2, 0.3]]])}  # of two clients
WEIGHTS = torch.tensor([[[1.0, 2.0, 0.0], [3.0, 4.0, 1.0]], [[5.0, 6.0, 2.0], [7.0, 8.0, 3.0]]])
OWN = [OwnImages(NAMES[[0, 3, 3]], torch.tensor([0, 0, 0])), OwnImages(NAMES[[2]], torch.tensor([1]))]
INF = math.inf


def widened(method, fixed):
    model, after = method.widen(MODEL, fixed, [{}, {}], FOUR)
    assert model is MODEL
    return after


def rows(first, second):
    """WEIGHTS, and two more rows."""
    return torch.stack([torch.cat([own, torch.tensor([first, second])]) for own in WEIGHTS])


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], torch.as_tensor(tensor))


def test_a_classifier_never_answers_them():
    bias = torch.tensor([[0.1, 0.2], [0.3, -INF]])
    assert_equal(widened(ClassMeans(), {"weights": WEIGHTS, "bias": bias}), {
        "weights": rows([0.0] * 3, [0.0] * 3), "bias": [[0.1, 0.2, -INF, -INF], [0.3, -INF, -INF, -INF]]})


def test_clap_answers_them_as_zero_shot():
    assert_equal(widened(CLAP(), {"weights": WEIGHTS, "bias": torch.zeros(2, 2)}), {
        "weights": rows([1.2, 1.6, 0.0], [0.0, 1.2, 1.6]), "bias": torch.zeros(2, 4)})


def test_the_federated_probe_never_answers_them():
    model, fixed = FedAvgProbe().widen({"weights": WEIGHTS}, {}, [{}, {}], FOUR)
    assert_equal(model, {"weights": rows([0.0] * 3, [0.0] * 3)})
    assert_equal(fixed, {"bias": [[0.0, 0.0, -INF, -INF]] * 2})
    logits = FedAvgProbe().logits(model, fixed, torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]]]), FOUR)
    torch.testing.assert_close(logits, torch.tensor([[[2.0, 6.0, -INF, -INF]], [[4.0, 6.0, -INF, -INF]]]))


@pytest.mark.parametrize(("method", "bias"), [
    (ZeroShotOwnClasses(), [[[0.0, -INF, -INF, -INF]], [[-INF, 0.0, -INF, -INF]]]),
    (ZeroShotPrior(), [[[math.log(count / 3.04) for count in (3.01, 0.01, 0.01, 0.01)]],
                       [[math.log(count / 1.04) for count in (0.01, 1.01, 0.01, 0.01)]]]),
], ids=lambda part: getattr(part, "name", ""))
def test_nobody_has_images_of_them(method, bias):
    assert_equal(widened(method, method.fixed(MODEL, [{}, {}], TWO, OWN)), {"bias": bias})


@pytest.mark.parametrize("method", [TipAdapter(), PFedPrompt()], ids=lambda method: method.name)
def test_a_cache_gives_them_no_votes(method):
    after = widened(method, method.fixed(MODEL, [{}, {}], TWO, OWN))
    assert_equal(after, {
        "cached_features": torch.stack([NAMES[[0, 3, 3]], torch.tensor([[0.6, 0.8, 0.0], [0.0] * 3, [0.0] * 3])]),
        "cached_labels": [[[1.0, 0.0, 0.0, 0.0]] * 3, [[0.0, 1.0, 0.0, 0.0], [0.0] * 4, [0.0] * 4]]})
