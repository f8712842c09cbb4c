"""Two classes that clients have images of become three: what is known of the third, by hand."""

import math

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

THREE = Context(None, torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.6, 0.8]]), 2.0, torch.zeros(1, 2), 1)
MODEL = {"prompt": torch.tensor([[[0.5, 0.5]], [[0.1, 0.2]]])}  # of two clients
WEIGHTS = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
BIAS = torch.tensor([[0.1, 0.2], [0.3, -math.inf]])
OWN = [OwnImages(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])),
       OwnImages(torch.tensor([[0.6, 0.8]]), torch.tensor([1]))]


def widened(method, fixed, model=MODEL):
    found, after = method.widen(model, fixed, [{}, {}], THREE)
    assert found is model
    return after


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], torch.as_tensor(tensor))


def test_a_classifier_never_answers_it():
    assert_equal(widened(ClassMeans(), {"weights": WEIGHTS, "bias": BIAS}), {
        "weights": [[[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]], [[5.0, 6.0], [7.0, 8.0], [0.0, 0.0]]],
        "bias": [[0.1, 0.2, -math.inf], [0.3, -math.inf, -math.inf]]})


def test_clap_answers_it_as_zero_shot():
    assert_equal(widened(CLAP(), {"weights": WEIGHTS, "bias": torch.zeros(2, 2)}), {
        "weights": [[[1.0, 2.0], [3.0, 4.0], [1.2, 1.6]], [[5.0, 6.0], [7.0, 8.0], [1.2, 1.6]]],
        "bias": [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]})


def test_the_federated_probe_never_answers_it():
    model, fixed = FedAvgProbe().widen({"weights": WEIGHTS}, {}, [{}, {}], THREE)
    assert_equal(model, {"weights": [[[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]], [[5.0, 6.0], [7.0, 8.0], [0.0, 0.0]]]})
    assert_equal(fixed, {"bias": [[0.0, 0.0, -math.inf], [0.0, 0.0, -math.inf]]})
    logits = FedAvgProbe().logits(model, fixed, torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]), THREE)
    torch.testing.assert_close(logits, torch.tensor([[[2.0, 6.0, -math.inf]], [[12.0, 16.0, -math.inf]]]))


@pytest.mark.parametrize(("method", "bias"), [
    (ZeroShotOwnClasses(), [[[0.0, -math.inf, -math.inf]], [[-math.inf, 0.0, -math.inf]]]),
    (ZeroShotPrior(), [[[math.log(count / 2.03) for count in (2.01, 0.01, 0.01)]],
                       [[math.log(count / 1.03) for count in (0.01, 1.01, 0.01)]]]),
], ids=lambda part: getattr(part, "name", ""))
def test_nobody_has_images_of_it(method, bias):
    two = Context(None, THREE.handwritten[:2], 2.0, THREE.initial_prompt, 1)
    assert_equal(widened(method, method.fixed(MODEL, [{}, {}], two, OWN)), {"bias": bias})


@pytest.mark.parametrize("method", [TipAdapter(), PFedPrompt()], ids=lambda method: method.name)
def test_a_cache_gives_it_no_votes(method):
    two = Context(None, THREE.handwritten[:2], 2.0, THREE.initial_prompt, 1)
    assert_equal(widened(method, method.fixed(MODEL, [{}, {}], two, OWN)), {
        "cached_features": [[[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.8], [0.0, 0.0]]],
        "cached_labels": [[[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]]})
