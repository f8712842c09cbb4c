"""FedAvg of linear probes: one linear classifier of image features for all clients (McMahan et al. 2017)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pfedmoap.method import Common, Context, Method
from pfedmoap.server import Tensors


@dataclass(frozen=True)
class FedAvgProbe(Method):
    """z = s f W^T. Shared: W (C, d), from zero, averaged. Personal: nothing. Tested with the global W.

    PromptFL with other logits: the same local training, uploads and privacy.
    """

    name: ClassVar[str] = "fedavg_probe"
    title: ClassVar[str] = "FedAvg of linear probes"
    plain: ClassVar[bool] = True

    def initial_shared(self, context: Context) -> Tensors:
        return {"weights": torch.zeros(context.handwritten.shape)}

    def widen(
        self, model: Tensors, fixed: Tensors, downloads: Sequence[Tensors], context: Context
    ) -> tuple[Tensors, Tensors]:
        """A class that nobody has images of is never answered."""
        more = len(context.handwritten) - model["weights"].shape[1]
        bias = model["weights"].new_zeros(model["weights"].shape[:2])  # (clients, C trained on)
        return ({"weights": F.pad(model["weights"], (0, 0, 0, more))},
                {"bias": F.pad(bias, (0, more), value=float("-inf"))})

    def logits(self, model: Tensors, fixed: Tensors, images: Tensor, context: Common) -> Tensor:
        logits = context.logit_scale * images @ model["weights"].mT  # (clients, B, C)
        return logits + fixed["bias"][:, None] if "bias" in fixed else logits
