"""Every loss has the gradient that finite differences give, for its own client alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_client import cohort_start
from tiny import make_data

from pfedmoap.methods import CoOp, FedAMP, FedOTP, FedPer, FedPGP, FedProx, PFedMoAP, PFedPrompt, PromptFL, PromptFLFT
from pfedmoap.methods.transport import partial_transport


def in_float64(context):
    """The context with a text tower that is a random map, in float64, so that no gradient drowns in rounding."""
    map_ = torch.randn(4 * 32, 6 * 32, generator=torch.manual_seed(3), dtype=torch.float64)

    def text(prompts):
        features = (prompts.double().flatten(-2) * 5 @ map_).tanh().unflatten(-1, (6, 32))
        return torch.nn.functional.normalize(features, dim=-1)

    return replace(context, text=text, handwritten=context.handwritten.double(), logit_scale=5.0)


@pytest.mark.parametrize("method", [
    CoOp(), PromptFL(), PromptFLFT(), FedPer(), FedProx(), FedAMP(), PFedPrompt(), FedPGP(),
    PFedMoAP(d_gating=16, heads=4, experts=2), PFedMoAP(gate="linear", experts=2)],
    ids=lambda method: f"{method.name}-{getattr(method, 'gate', '')}")
def test_the_loss_has_the_gradient_that_finite_differences_give(context, method):
    context = in_float64(context)
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


def test_fedotps_gradient_is_that_of_finite_differences_with_the_plan_held_fixed(context, monkeypatch):
    """The plan has no gradient, so that the slope of the loss is the one at the plan of the start."""
    context = in_float64(context)
    images = torch.randn(2, 4, 16, 32, generator=torch.manual_seed(4), dtype=torch.float64)
    images = torch.nn.functional.normalize(images, dim=-1)
    labels, present = torch.tensor([[0, 1, 2, 3], [4, 5, 0, 1]]), torch.ones(2, 4, dtype=torch.bool)
    generator = torch.manual_seed(5)
    start = {name: 0.1 * torch.randn(2, 4, 32, generator=generator, dtype=torch.float64) for name in ("prompt", "own")}
    method, plans = FedOTP(), []
    monkeypatch.setattr("pfedmoap.methods.fedotp.partial_transport", lambda cost, mass, **options: (
        plans.append(partial_transport(cost, mass, **options)) or plans[0]))

    def loss(model):
        return method.loss(model, {}, images, labels, present, context)

    model = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
    gradients = dict(zip(model, torch.autograd.grad(loss(model).sum(), list(model.values())), strict=True))
    for name, gradient in gradients.items():
        direction = gradient / gradient.norm()
        up, down = (loss(start | {name: start[name] + h * direction}).sum() for h in (1e-5, -1e-5))
        assert ((up - down) / 2e-5).item() == pytest.approx(gradient.norm().item(), rel=1e-5)
        assert gradient.flatten(1).norm(dim=1).min() > 1e-4
