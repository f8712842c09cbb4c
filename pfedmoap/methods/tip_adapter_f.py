"""Tip-Adapter-F: Tip-Adapter whose cached features are trained, each client's alone (Zhang et al. 2022)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pfedmoap.errors import require
from pfedmoap.method import Context, OwnImages
from pfedmoap.methods.tip_adapter import TipAdapter
from pfedmoap.server import Tensors


@dataclass(frozen=True)
class TipAdapterF(TipAdapter):
    """Tip-Adapter, its keys F_i trained by AdamW on the cross-entropy over all C classes.

    As published: AdamW (lr 0.001, eps 1e-4, weight decay 0.01), cosine schedule, keys start at the features and are
    not normalised again. Otherwise: every step sees all images of the client, as they are tested (published: 20 epochs
    of batches of 256 augmented images), and the last keys are kept (the published code keeps the best on the test set).

    Attributes:
        key_steps: full-batch steps of the training (100).
        key_lr: learning rate of the keys at the first step (0.001).
    """

    name: ClassVar[str] = "tip_adapter_f"
    title: ClassVar[str] = "Tip-Adapter-F"
    key_steps: int = 100
    key_lr: float = 0.001

    def __post_init__(self):
        super().__post_init__()
        require(self, {
            "key_steps": (self.key_steps >= 0, "a whole number >= 0"),
            "key_lr": (self.key_lr >= 0, "a number >= 0"),
        }, "tip_adapter_f's ")

    def fixed(
        self, model: Tensors, downloads: Sequence[Tensors], context: Context, cached: Sequence[OwnImages] | None = None
    ) -> Tensors:
        trained = [images._replace(features=self.train_keys(images, context)) for images in cached or ()]
        return super().fixed(model, downloads, context, trained)

    def train_keys(self, images: OwnImages, context: Context) -> Tensor:
        """The keys of one client's cache after the training: (n, d)."""
        keys = images.features.clone().requires_grad_()
        optimizer = torch.optim.AdamW([keys], lr=self.key_lr, eps=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.key_steps)
        labels = F.one_hot(images.labels, len(context.handwritten)).to(keys)  # (n, C)
        for _ in range(self.key_steps):
            fixed = {"cached_features": keys[None], "cached_labels": labels[None]}
            loss = F.cross_entropy(self.logits({}, fixed, images.features[None], context)[0], images.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        return keys.detach()
