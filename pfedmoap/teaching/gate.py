"""One client's gate under the microscope: its attention, how even that is, and what its gradients are."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from pfedmoap import gating
from pfedmoap.errors import UserError
from pfedmoap.evaluation import stack
from pfedmoap.experiments import Prepared
from pfedmoap.methods import Method
from pfedmoap.server import Tensors
from pfedmoap.teaching.steps import own_tests


class Model(NamedTuple):
    """A client's personal model as a cohort of one.

    Attributes:
        method: the method, perhaps with other settings than it was trained with.
        lenders: the clients whose prompts it has borrowed, nearest first.
        lent: what it would download now.
        model, fixed: what `method.logits` needs, each (1, ...).
    """

    method: Method
    lenders: list[int]
    lent: Tensors
    model: Tensors
    fixed: Tensors


def personal_model(prepared: Prepared, client: int, **settings: Any) -> Model:
    """The model that a client is tested with; `settings` replace the method's, such as lam=0.0 or experts=3."""
    federation, method = prepared.federation, replace(prepared.experiment.method, **settings)
    lent = method.download(federation.server, client)
    model = method.tested(lent, federation.personal[client], client, federation.context)
    model = {name: tensor.float() for name, tensor in stack([model], prepared.clip.device).items()}
    lenders = federation.server.pool.nearest(client, len(lent["experts"])) if "experts" in lent else []
    return Model(method, lenders, lent, model, method.fixed(model, [lent], federation.context))


@torch.no_grad()
def attention(prepared: Prepared, client: int, images: Tensor) -> Tensor:
    """The gate's attention, in double precision, since the weights can be very nearly even.

    Args:
        images: (B, d) image features.

    Returns:
        (B, C, heads, J), summing to 1 over the experts: the client's own, then its lenders', nearest first.

    Raises:
        UserError: the client's gate was never trained, or it has nobody to borrow from.
    """
    personal = _with_experts(prepared, client)
    text = prepared.federation.context.text(personal.model["prompt"])  # (1, C, d)
    inputs = _in_double(personal.method.gate_inputs(personal.fixed, images[None], text))
    return gating.attend(_in_double(_gate(personal)), **inputs)[1][0]


def entropy(weights: Tensor) -> Tensor:
    """How even attention weights are, as a mean over classes and heads: (B, C, heads, J) -> (B,), 1 when all equal."""
    return torch.special.entr(weights).sum(-1).mean((1, 2)) / np.log(weights.shape[-1])


@torch.no_grad()
def entropy_by_spread(
    prepared: Prepared, client: int, factors: Sequence[float], scales: Sequence[float]
) -> pd.DataFrame:
    """What it would take for a gate to choose: its entropy if the experts were further apart, or its scores larger.

    Args:
        factors: how many times as far from their mean the experts' prompts, the client's own among them, are put.
        scales: factors on the attention scores.

    Returns:
        factor, scale, entropy: the mean over the client's test images.

    Raises:
        UserError: as `attention`.
    """
    personal, context = _with_experts(prepared, client), prepared.federation.context
    gate, method = _in_double(_gate(personal)), personal.method
    prompts = torch.cat([personal.model["prompt"], personal.lent["experts"].to(prepared.clip.device)])  # (J, m, e)
    centre = prompts.mean(0)
    rows = []
    for factor in factors:
        text = context.text(centre + factor * (prompts - centre))  # (J, C, d)
        lent = {"experts": gating.pool(text[None, 1:], method.d_gating, method.pooling),
                "present": personal.fixed["present"]}
        inputs = method.gate_inputs(lent, own_tests(prepared, client)[0][None], text[None, 0])
        for scale in scales:
            weights = gating.attend(gate, **_in_double(inputs | {"scale": scale}))[1][0]  # (B, C, heads, J)
            rows.append({"factor": factor, "scale": scale, "entropy": entropy(weights).mean().item()})
    return pd.DataFrame(rows)


def gradients(prepared: Prepared, client: int) -> pd.Series:
    """Norms of the loss's gradient for each of the gate's tensors, over the client's training images, in double.

    For gates that match by the raw dot product (equation 10 as released).

    Raises:
        UserError: as `attention`.
    """
    personal, context, data = _with_experts(prepared, client), prepared.federation.context, prepared.federation.data
    rows = torch.from_numpy(data.train_rows[client]).to(data.train_labels.device)
    images = data.train_features[0, rows][None]  # (1, n_i, d)
    text = context.text(personal.model["prompt"]).detach()  # (1, C, d)
    inputs = _in_double(personal.method.gate_inputs(personal.fixed, images, text))
    gate = {name: tensor.requires_grad_() for name, tensor in _in_double(_gate(personal)).items()}
    local = (images @ text.mT).double()  # (1, n_i, C)
    logits = context.logit_scale * (gating.dot_product(gate, **inputs)[0] + personal.method.lam * local)
    loss = F.cross_entropy(logits[0], data.train_labels[rows])
    norms = [gradient.norm().item() for gradient in torch.autograd.grad(loss, list(gate.values()))]
    return pd.Series(norms, index=[name.removeprefix("gate.") for name in gate], name="gradient")


def _with_experts(prepared: Prepared, client: int) -> Model:
    personal = personal_model(prepared, client)
    if not personal.lenders or not _gate(personal):
        raise UserError(f"Client {client} has no trained gate and borrowed prompts: choose a client that took part at "
                        f"least twice, or run more rounds.")
    return personal


def _gate(personal: Model) -> Tensors:
    return {name: tensor for name, tensor in personal.model.items() if name.startswith("gate.")}


def _in_double(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
            for name, value in values.items()}
