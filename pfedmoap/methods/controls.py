"""Controls: untrained on purpose. They show how much of an accuracy is knowing which classes a client owns (SPEC 8)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pfedmoap.method import Common, Context, OwnImages
from pfedmoap.methods.zero_shot import ZeroShot
from pfedmoap.server import Tensors


@dataclass(frozen=True)
class ZeroShotPrior(ZeroShot):
    """Zero-shot logits + log((n_ic + 0.01) / (n_i + 0.01 C)): the client's training label frequencies as a prior."""

    name: ClassVar[str] = "zs_prior"
    title: ClassVar[str] = "ZS-CLIP + label prior"
    remembers_images: ClassVar[bool] = True

    def fixed(
        self, model: Tensors, downloads: Sequence[Tensors], context: Context, cached: Sequence[OwnImages] | None = None
    ) -> Tensors:
        classes = len(context.handwritten)
        owned = [F.one_hot(images.labels, classes).sum(0) for images in cached or ()]  # each (C,)
        counts = torch.stack(owned).float()  # (clients, C)
        return {"counts": counts, "bias": self.bias(counts)[:, None]}  # (clients, C), (clients, 1, C)

    def widen(
        self, model: Tensors, fixed: Tensors, downloads: Sequence[Tensors], context: Context
    ) -> tuple[Tensors, Tensors]:
        """Nobody has training images of the other classes."""
        counts = F.pad(fixed["counts"], (0, len(context.handwritten) - fixed["counts"].shape[1]))
        return model, {"bias": self.bias(counts)[:, None]}

    def logits(self, model: Tensors, fixed: Tensors, images: Tensor, context: Common) -> Tensor:
        return super().logits(model, fixed, images, context) + fixed["bias"]

    def bias(self, counts: Tensor) -> Tensor:
        """What is added to the logits, given the client's training images per class: (clients, C) -> (clients, C)."""
        return ((counts + 0.01) / (counts.sum(1, keepdim=True) + 0.01 * counts.shape[1])).log()


@dataclass(frozen=True)
class ZeroShotOwnClasses(ZeroShotPrior):
    """Zero-shot over the classes that the client has training images of, and no others."""

    name: ClassVar[str] = "zs_own_classes"
    title: ClassVar[str] = "ZS-CLIP, own classes"

    def bias(self, counts: Tensor) -> Tensor:
        return torch.zeros_like(counts).masked_fill(counts == 0, float("-inf"))
