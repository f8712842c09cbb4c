"""The gates that mix prompt experts: attention (paper section 3.3, equation 11), and the linear one of Table 6.

All functions take a leading `clients` axis: every client has its own gate.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pfedmoap.randomness import generator

PROJECTIONS = ("query", "key", "value", "output")


def pool(features: Tensor, d_gating: int, pooling: str = "stride") -> Tensor:
    """Reduces features to the gate's width, which divides theirs: (..., d) -> (..., d_gating).

    Args:
        pooling: "stride" keeps every (d / d_gating)-th entry (released code); "average" averages neighbours.
    """
    ratio = features.shape[-1] // d_gating
    if pooling == "stride":
        return features[..., ::ratio]
    return features.unflatten(-1, (d_gating, ratio)).mean(-1)


def initial_gate(d_gating: int, seed: int, client: int) -> dict[str, Tensor]:
    """A client's untrained gate: four linear maps initialised as `torch.nn.Linear` is, from (seed, client).

    Returns:
        {"gate.query.weight": (d_gating, d_gating), "gate.query.bias": (d_gating,), ... key, value, output}.
    """
    rng, bound = generator(seed, "gate", client), d_gating**-0.5
    gate = {}
    for name in PROJECTIONS:
        for kind, shape in (("weight", (d_gating, d_gating)), ("bias", (d_gating,))):
            gate[f"gate.{name}.{kind}"] = torch.from_numpy(rng.uniform(-bound, bound, shape)).float()
    return gate


def gate_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A client's gate among its tensors; empty if it has none."""
    return {name: tensor for name, tensor in tensors.items() if name.startswith("gate.")}


def _attention(
    gate: dict[str, Tensor], queries: Tensor, experts: Tensor, present: Tensor, *, heads: int, scale: float,
    trained: int | None = None,
) -> Tensor:  # fmt: skip
    """The attention weights for the same arguments as `attend`: (clients, h, B, J, C).

    Classes come last so that the softmax over experts runs over contiguous rows.
    """
    q = _split(_linear(gate, "query", queries), heads)  # (clients, h, B, g/h)
    k = _split(_linear(gate, "key", experts, trained).flatten(1, 2), heads)  # (clients, h, J*C, g/h)
    scores = (scale * q @ k.mT).unflatten(-1, experts.shape[1:3])  # (clients, h, B, J, C)
    absent = torch.where(present, 0.0, float("-inf"))  # added, as its gradient then costs nothing
    return (scores + absent[:, None, None, :, None]).softmax(-2)


def attend(
    gate: dict[str, Tensor], queries: Tensor, experts: Tensor, present: Tensor, *, heads: int, scale: float,
    trained: int | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Multi-head attention of images over experts, one class at a time (equation 11).

    Args:
        gate: as `initial_gate`, with a leading clients axis.
        queries: (clients, B, g) pooled image features.
        experts: (clients, J, C, g) pooled text features of the local expert and the non-local ones, in any order.
        present: (clients, J) bool; False marks the padding of clients that hold fewer experts.
        heads: number of heads; g must be a multiple.
        scale: factor on the scores (10 in the released code; "scaled dot product" would be (g / heads) ** -0.5).
        trained: how many of the experts, from the first on, get a gradient, as the others are fixed; None: all.

    Returns:
        The enhanced text features T_MoE (clients, B, C, g) and the attention weights (clients, B, C, heads, J).
    """
    weights = _attention(gate, queries, experts, present, heads=heads, scale=scale, trained=trained)
    values = _linear(gate, "value", experts, trained).unflatten(-1, (heads, -1))  # (clients, J, C, h, g/h)
    mixed = torch.einsum("nhbjc,njchw->nbchw", weights, values).flatten(-2)  # (clients, B, C, g)
    return _linear(gate, "output", mixed), weights.permute(0, 2, 4, 1, 3)  # (clients, B, C, heads, J)


def dot_product(
    gate: dict[str, Tensor], queries: Tensor, experts: Tensor, present: Tensor, *, heads: int, scale: float,
    trained: int | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """<I, T_MoE> (clients, B, C) for the same arguments as `attend`, without forming T_MoE, and the attention weights.

    W_o is applied to the image instead of to every class's mixture: <q, W_o m + b_o> = <W_o^T q, m> + <q, b_o>, and m
    is linear in the values, so that one number per expert, <W_o^T q, v>, is all that has to be mixed.
    """
    weights = _attention(gate, queries, experts, present, heads=heads, scale=scale, trained=trained)
    back = queries @ gate["gate.output.weight"]  # (clients, B, g)
    values = _split(_linear(gate, "value", experts, trained).flatten(1, 2), heads)  # (clients, h, J*C, g/h)
    matches = _split(back, heads) @ values.mT  # (clients, h, B, J*C)
    mixed = (weights * matches.unflatten(-1, experts.shape[1:3])).sum((1, 3))  # (clients, B, C)
    match = mixed + torch.einsum("nbg,ng->nb", queries, gate["gate.output.bias"])[..., None]
    return match, weights.permute(0, 2, 4, 1, 3)  # (clients, B, C), (clients, B, C, heads, J)


def cosine(queries: Tensor, enhanced: Tensor) -> Tensor:
    """sim(I, T_MoE) as the paper's example has it: (clients, B, g), (clients, B, C, g) -> (clients, B, C)."""
    return torch.einsum("nbg,nbcg->nbc", F.normalize(queries, dim=-1), F.normalize(enhanced, dim=-1))


def initial_linear_gate(features: int, slots: int, seed: int, client: int) -> dict[str, Tensor]:
    """Table 6's projection-based gate, `torch.nn.Linear(d, K+1)` with its initialisation, from (seed, client)."""
    rng, bound = generator(seed, "gate", client), features**-0.5
    shapes = {"gate.linear.weight": (slots, features), "gate.linear.bias": (slots,)}
    return {name: torch.from_numpy(rng.uniform(-bound, bound, shape)).float() for name, shape in shapes.items()}


def linear_match(gate: dict[str, Tensor], images: Tensor, experts: Tensor, present: Tensor) -> Tensor:
    """<I, T_MoE> with T_MoE = sum_j w_j t_c(p_j) and w = softmax(W I) over the slots that hold an expert.

    Args:
        gate: as `initial_linear_gate`, with a leading clients axis.
        images: (clients, B, d); experts: (clients, J, C, d), the local one first; present: (clients, J) bool.

    Returns:
        (clients, B, C).
    """
    scores = _linear(gate, "linear", images).masked_fill(~present[:, None], float("-inf"))  # (clients, B, J)
    return torch.einsum("nbj,nbd,njcd->nbc", scores.softmax(-1), images, experts)


class _Linear(torch.autograd.Function):
    """A linear map per client whose inputs need a gradient only in their first rows, here those of trained experts."""

    @staticmethod
    def forward(ctx, weight: Tensor, bias: Tensor, inputs: Tensor, trained: int) -> Tensor:
        ctx.save_for_backward(weight, inputs)
        ctx.trained = trained
        return torch.baddbmm(bias[:, None], inputs, weight.mT)  # (clients, rows, g)

    @staticmethod
    def backward(ctx, grad: Tensor):
        weight, inputs = ctx.saved_tensors
        to_inputs = torch.zeros_like(inputs) if ctx.needs_input_grad[2] else None
        if to_inputs is not None:
            torch.bmm(grad[:, : ctx.trained], weight, out=to_inputs[:, : ctx.trained])
        return (inputs.mT @ grad).mT, grad.sum(1), to_inputs, None


def _split(x: Tensor, heads: int) -> Tensor:
    """(clients, rows, g) -> (clients, h, rows, g/h)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _linear(gate: dict[str, Tensor], name: str, inputs: Tensor, trained: int | None = None) -> Tensor:
    """Every client's own linear map: (clients, ..., g) -> (clients, ..., g).

    Args:
        trained: how many of the entries on the second axis need a gradient, from the first on; None: all.
    """
    weight, bias = gate[f"gate.{name}.weight"], gate[f"gate.{name}.bias"]  # (clients, g, g), (clients, g)
    flat = inputs.flatten(1, -2)  # (clients, rows, g)
    rows = flat.shape[1] if trained is None else trained * inputs[0, 0, ..., 0].numel()
    return _Linear.apply(weight, bias, flat, rows).view(*inputs.shape[:-1], -1)
