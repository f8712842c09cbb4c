"""FedAvg of linear probes: one linear classifier of image features for all clients (McMahan et al. 2017)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
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

    def logits(self, model: Tensors, fixed: Tensors, images: Tensor, context: Common) -> Tensor:
        return context.logit_scale * images @ model["weights"].mT  # (clients, B, C)
