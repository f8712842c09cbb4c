"""Whether a client's gate looks at experts that attackers have lent it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pfedmoap import gating
from pfedmoap.evaluation import stack
from pfedmoap.federation import Federation
from pfedmoap.methods import PFedMoAP


@torch.no_grad()
def attention_to(federation: Federation, client: int, others: Sequence[int], images: Tensor) -> float | None:
    """The gate's mean attention to one of the others' experts, times the number of experts: 1 is an even share.

    Args:
        images: (B, d) features.

    Returns:
        The mean over images, classes, heads and those of the others that are lent; None where no attention gate of the
        client's sees any of them.
    """
    method, context, server = federation.method, federation.context, federation.server
    if not isinstance(method, PFedMoAP) or method.gate != "attention" or method.expert_choice != "nearest":
        return None
    if client not in server.pool or not isinstance(method.experts, int) or not len(images):
        return None
    lenders = server.pool.nearest(client, method.experts)
    places = [1 + place for place, lender in enumerate(lenders) if lender in others]  # expert 0 is the local one
    download = method.download(server, client)
    model = stack([method.tested(download, federation.personal[client], client, context)], images.device)
    if not places or not gating.gate_of(model):
        return None
    fixed = method.fixed(model, [download], context)
    inputs = method.gate_inputs(fixed, images[None], context.text(model["prompt"]))
    _, weights = gating.attend(model, **inputs)  # (1, B, C, heads, 1+K)
    return float(weights[..., places].mean() * weights.shape[-1])
