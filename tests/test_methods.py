"""Every method on two clients, with numbers worked out by hand; gradients and limits."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_data
from test_client import cohort_start

from pfedmoap.client import Recipe
from pfedmoap.errors import UserError
from pfedmoap.experiment import build_method
from pfedmoap.federation import FederatedData, Federation, Plan
from pfedmoap.methods import Context, CoOp, PFedMoAP, PromptFL, ZeroShot


class TwoClasses:
    """A text tower that can be worked out by hand: one context token p, class features p and -p."""

    encoder = SimpleNamespace(bytes_per_prompt=lambda: 1000)

    def __call__(self, prompts):
        return torch.cat([prompts, -prompts], dim=-2)  # (..., 1, 2) -> (..., C = 2, d = 2)


def by_hand(method, lr=0.1, rounds=1, momentum=0.0):
    """Client 0: three images (1, 0) of class 0. Client 1: one image (0, 1) of class 1. Everyone starts from p = 0.

    At p = 0 both classes have probability 1/2, and the gradient of the cross-entropy of an image f of class 0 is
    -s f, of class 1 it is s f, since class 0 scores s f.p and class 1 scores -s f.p.
    """
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    labels = torch.tensor([0, 0, 0, 1])
    rows = [np.array([0, 1, 2]), np.array([3])]
    data = FederatedData(features[None], labels, features, labels, rows, rows)
    context = Context(TwoClasses(), torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 2.0, torch.zeros(1, 2), 1)
    run = Federation(method, Plan(rounds, 1.0, Recipe(1, 4, lr, momentum, 0.0)), data, context)
    for _ in run.rounds():
        pass
    return run


def p(*values):
    return torch.tensor([values])


def test_zero_shot_by_hand():
    run = by_hand(ZeroShot())
    assert run.history[0].accuracies == [0.0, 0.0]  # the hand-written features stand crosswise
    assert run.history[0].losses == {} and run.personal == {0: {}, 1: {}}


def test_coop_by_hand():
    run = by_hand(CoOp(), lr=0.1)
    torch.testing.assert_close(run.personal[0]["prompt"], p(0.2, 0.0))  # 0 - 0.1 * (-2 * (1, 0))
    torch.testing.assert_close(run.personal[1]["prompt"], p(0.0, -0.2))
    assert run.history[0].losses == pytest.approx({0: math.log(2), 1: math.log(2)})
    assert run.history[0].accuracies == [1.0, 1.0]


def test_coops_second_round_goes_on_with_its_momentum():
    run = by_hand(CoOp(), lr=0.1, rounds=2, momentum=0.5)
    # at p = (0.2, 0) the scores differ by 2 * 2 * 0.2 = 0.8: class 1 has 1 / (1 + e^0.8), the gradient is -4 times it
    step = 4 / (1 + math.exp(0.8))
    torch.testing.assert_close(run.personal[0]["prompt"], p(0.2 + 0.1 * (step + 0.5 * 2), 0.0))


def test_promptfl_by_hand():
    run = by_hand(PromptFL(), lr=0.1)
    torch.testing.assert_close(run.server.shared["prompt"], p(0.15, -0.05))  # (3 * (0.2, 0) + 1 * (0, -0.2)) / 4
    assert run.history[0].bytes_up == {0: 8, 1: 8} and run.personal == {0: {}, 1: {}}
    assert run.history[0].accuracies == [1.0, 1.0]


def test_pfedmoap_by_hand_first_round():
    run = by_hand(PFedMoAP(d_gating=2, heads=1, experts=1), lr=0.1)
    torch.testing.assert_close(run.server.shared["prompt"], p(0.15, -0.05))  # no gate yet: as PromptFL ...
    torch.testing.assert_close(run.server.pool[0], p(0.2, 0.0))  # ... but every client's own stays in the pool
    torch.testing.assert_close(run.server.pool[1], p(0.0, -0.2))


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_pfedmoap_logits_by_hand(similarity):
    """Equation 10 in plain arithmetic: d = 4 pooled to 2, one head, one non-local expert, another gate per client."""
    lam, scale, s = 0.5, 3.0, 2.0
    method = PFedMoAP(lam=lam, experts=1, d_gating=2, heads=1, attention_scale=scale, moe_similarity=similarity)
    features = [[[0.1, 0.7, -0.3, 0.2]], [[0.4, -0.1, 0.6, 0.3]]]
    local = [[[0.5, 0.1, 0.2, 0.3], [-0.2, 0.4, 0.1, 0.6]], [[0.3, 0.3, -0.5, 0.1], [0.2, -0.4, 0.4, 0.2]]]
    other = [[[0.6, 0.0, -0.1, 0.2], [0.1, 0.1, 0.3, 0.3]], [[0.2, 0.5, 0.1, 0.4], [-0.3, 0.2, 0.2, 0.1]]]
    matrices = {"query": [[1.0, 2.0], [0.0, 1.0]], "key": [[0.5, 0.0], [1.0, 1.0]], "value": [[2.0, 0.0], [0.0, 1.0]],
                "output": [[1.0, -1.0], [0.5, 1.0]]}
    biases = {"query": [0.1, 0.2], "key": [0.3, -0.1], "value": [0.0, 0.2], "output": [0.1, 0.0]}
    times = [1.0, -0.5]  # client 1's gate

    def affine(name, x, client):
        w, b = matrices[name], biases[name]
        return [times[client] * (w[i][0] * x[0] + w[i][1] * x[1] + b[i]) for i in (0, 1)]

    def dot(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    expected = []
    for client in (0, 1):
        image = features[client][0]
        query = [image[0], image[2]]  # strided pooling
        for label in (0, 1):
            keys = [[text[0], text[2]] for text in (local[client][label], other[client][label])]
            scores = [scale * dot(affine("query", query, client), affine("key", key, client)) for key in keys]
            total = sum(map(math.exp, scores))
            values = [affine("value", key, client) for key in keys]
            mixed = [sum(math.exp(score) / total * value[i] for score, value in zip(scores, values, strict=True))
                     for i in (0, 1)]
            enhanced = affine("output", mixed, client)
            match = dot(query, enhanced)
            if similarity == "cosine":
                match /= math.hypot(*query) * math.hypot(*enhanced)
            expected.append(s * match + lam * s * dot(image, local[client][label]))

    model = {"prompt": torch.tensor(local)}
    for name in matrices:
        for part, table in (("weight", matrices), ("bias", biases)):
            model[f"gate.{name}.{part}"] = torch.stack([torch.tensor(table[name]) * factor for factor in times])
    context = Context(lambda prompts: prompts, torch.zeros(2, 4), s, torch.zeros(2, 4), 1)
    fixed = {"experts": torch.tensor(other)[:, None, :, ::2], "present": torch.ones(2, 1, dtype=torch.bool)}
    logits = method.logits(model, fixed, torch.tensor(features), context)
    torch.testing.assert_close(logits.flatten(), torch.tensor(expected))


@pytest.mark.parametrize("method", [CoOp(), PromptFL(), PFedMoAP(d_gating=16, heads=4, experts=2)],
                         ids=lambda method: method.name)
def test_the_loss_has_the_gradient_that_finite_differences_give(context, method):
    """In float64, on a text tower that is a random map, so that no gradient drowns in rounding."""
    map_ = torch.randn(4 * 32, 6 * 32, generator=torch.manual_seed(3), dtype=torch.float64)

    def text(prompts):
        features = (prompts.double().flatten(-2) * 5 @ map_).tanh().unflatten(-1, (6, 32))
        return torch.nn.functional.normalize(features, dim=-1)

    context = replace(context, text=text, handwritten=context.handwritten.double(), logit_scale=5.0)
    start, fixed = cohort_start(context, [0, 1], method)
    start, fixed = ({name: part if part.dtype == torch.bool else part.double() for name, part in parts.items()}
                    for parts in (start, fixed))
    data = make_data()
    rows = torch.from_numpy(np.stack([own[:4] for own in data.train_rows[:2]]))
    images, labels = data.train_features[0][rows].double(), data.train_labels[rows]
    present = torch.ones(2, 4, dtype=torch.bool)

    def loss(model):
        return method.loss(model, fixed, images, labels, present, context)

    model = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
    gradients = dict(zip(model, torch.autograd.grad(loss(model).sum(), list(model.values())), strict=True))
    without_effect = {"gate.key.bias", "gate.value.bias", "gate.output.bias"}
    assert all(gradients[name].abs().max() < 1e-12 for name in without_effect & gradients.keys())
    for name in gradients.keys() - without_effect:
        for client in (0, 1):
            direction = torch.zeros_like(start[name])
            direction[client] = gradients[name][client] / gradients[name][client].norm()
            up, down = (loss(start | {name: start[name] + h * direction}) for h in (1e-5, -1e-5))
            slope = ((up - down) / 2e-5).tolist()
            assert slope[client] == pytest.approx(gradients[name][client].norm().item(), rel=1e-4), name
            assert slope[client] > 1e-4, name
            assert slope[1 - client] == pytest.approx(0, abs=1e-9), "a client's tensor moved another client's loss"


def test_a_large_lambda_ranks_as_the_local_prompt_alone(context):
    data = make_data()
    start, fixed = cohort_start(context, [0, 1, 2, 3], PFedMoAP(d_gating=16, heads=4, experts=2))
    images = data.test_features[torch.from_numpy(np.stack(data.test_rows))]
    alone = PFedMoAP(gate=False).logits(start, {}, images, context)
    mixed = PFedMoAP(d_gating=16, heads=4, lam=1e6).logits(start, fixed, images, context)
    assert torch.equal(alone.argsort(-1), mixed.argsort(-1))


def test_permuting_experts_changes_no_logit(context):
    method = PFedMoAP(d_gating=16, heads=4, experts=3)
    start, fixed = cohort_start(context, [0, 1], method)
    images = make_data().test_features[:10].view(2, 5, -1)
    permuted = {"experts": fixed["experts"][:, [2, 0, 1]], "present": fixed["present"][:, [2, 0, 1]]}
    torch.testing.assert_close(method.logits(start, fixed, images, context),
                               method.logits(start, permuted, images, context), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "settings", "message"), [
    ("pfedmaop", {}, "did you mean 'pfedmoap'"),
    ("promptfl", {"lam": 1.0}, "no setting of promptfl 'lam'"),
    ("pfedmoap", {"lambda": 1.0}, "did you mean 'lam'"),
    ("pfedmoap", {"lam": -1.0}, "lam must be"),
    ("pfedmoap", {"experts": -1}, "experts must be"),
    ("pfedmoap", {"heads": 7}, "a divisor of d_gating"),
    ("pfedmoap", {"moe_similarity": "l2"}, "'dot' or 'cosine'"),
])
def test_settings_that_make_no_sense_are_refused_by_name(name, settings, message):
    with pytest.raises(UserError, match=message):
        build_method(name, **settings)
