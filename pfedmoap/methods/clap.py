"""CLAP: a linear probe that starts at zero-shot CLIP and is held near it by class (Silva-Rodríguez et al. 2024)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pfedmoap.errors import require
from pfedmoap.method import Context, OwnImages
from pfedmoap.methods.classifier import Classifier, Linear
from pfedmoap.server import Tensors


@dataclass(frozen=True)
class CLAP(Classifier):
    """Mean cross-entropy of s cos(f, w_c) + a sum_c lambda_c ||w_c - t_c||^2, from w_c = t_c ("A Closer Look at the
    Few-Shot Adaptation of Large Vision-Language Models", CVPR).

    lambda_c is the probability that zero-shot CLIP gives to class c, averaged over the client's training images of c:
    the published multipliers, which stay as they are. Where zero-shot is good, the probe is held. A class that the
    client has no images of is not held (lambda_c = 0).

    As published: 300 steps of SGD (momentum 0.9, cosine schedule). Assumed: t_c of length 1, and the sum over classes,
    as the paper has it (the published code takes the mean, and t_c of any length: a learning rate of 0.1 there is
    about 0.001 here); every step sees all images of the client, without augmentation.

    Attributes:
        constraint: a, weight of the constraint (1); 0 leaves a probe that only starts at zero-shot. Times the learning
            rate it must be at most 1, as SGD diverges not far above.
        probe_steps: full-batch steps (300).
        probe_lr: learning rate of the probe at the first step (0.001).
    """

    name: ClassVar[str] = "clap"
    title: ClassVar[str] = "CLAP"
    constraint: float = 1.0
    probe_steps: int = 300
    probe_lr: float = 0.001

    def __post_init__(self):
        require(self, {
            "probe_steps": (self.probe_steps >= 0, "a whole number >= 0"),
            "probe_lr": (self.probe_lr >= 0, "a number >= 0"),
            "constraint": (0 <= self.constraint * self.probe_lr <= 1, "a number >= 0 and <= 1 / probe_lr"),
        }, "clap's ")

    def fit(self, images: OwnImages, context: Context) -> Linear:
        images, start = images._replace(features=images.features.double()), context.handwritten.double()  # (C, d)
        held = self.multipliers(images, start, context.logit_scale)[:, None]  # (C, 1)
        weights, moved = start, torch.zeros_like(start)
        for step in range(self.probe_steps if len(images.labels) else 0):
            lr = self.probe_lr * (1 + math.cos(math.pi * step / self.probe_steps)) / 2
            slope = self.gradient(weights, images, context.logit_scale) + 2 * held * (weights - start)
            moved = 0.9 * moved + slope
            weights = weights - lr * moved
        directions = F.normalize(weights, dim=-1)
        return Linear(context.logit_scale * directions, directions.new_zeros(len(directions)))

    def widen(
        self, model: Tensors, fixed: Tensors, downloads: Sequence[Tensors], context: Context
    ) -> tuple[Tensors, Tensors]:
        """A class that nobody has images of is where the probe started: at zero-shot."""
        known = fixed["bias"].shape[1]
        zero_shot = (context.logit_scale * context.handwritten[known:]).expand(len(fixed["bias"]), -1, -1)
        return model, {"weights": torch.cat([fixed["weights"], zero_shot], dim=1),  # (clients, C, d)
                       "bias": F.pad(fixed["bias"], (0, len(context.handwritten) - known))}

    def multipliers(self, images: OwnImages, prototypes: Tensor, logit_scale: float) -> Tensor:
        """a lambda_c of every class: (C,)."""
        zero_shot = (logit_scale * images.features @ prototypes.T).softmax(-1)  # (n, C)
        labels = F.one_hot(images.labels, len(prototypes)).to(zero_shot)  # (n, C)
        return self.constraint * (zero_shot * labels).sum(0) / labels.sum(0).clamp_min(1)

    def gradient(self, weights: Tensor, images: OwnImages, logit_scale: float) -> Tensor:
        """Of the mean cross-entropy: (C, d). Written out, as autograd takes several times as long for so little."""
        length = weights.norm(dim=-1, keepdim=True)  # (C, 1)
        directions = weights / length  # (C, d)
        errors = (logit_scale * images.features @ directions.T).softmax(-1)  # (n, C)
        errors = errors - F.one_hot(images.labels, len(weights))
        slope = logit_scale / len(errors) * errors.T @ images.features  # (C, d), of the directions
        return (slope - (slope * directions).sum(-1, keepdim=True) * directions) / length
