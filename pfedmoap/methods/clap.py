"""CLAP: a linear probe that starts at zero-shot CLIP and is held near it by class (Silva-Rodríguez et al. 2024)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pfedmoap.errors import require
from pfedmoap.method import Context, OwnImages
from pfedmoap.methods.classifier import Classifier, Linear


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
        multipliers = self.multipliers(images, start, context.logit_scale)
        weights = start.clone().requires_grad_()
        optimizer = torch.optim.SGD([weights], lr=self.probe_lr, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, self.probe_steps))
        for _ in range(self.probe_steps):
            logits = context.logit_scale * images.features @ F.normalize(weights, dim=-1).T  # (n, C)
            loss = F.cross_entropy(logits, images.labels) + multipliers @ (weights - start).square().sum(1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        directions = F.normalize(weights.detach(), dim=-1)
        return Linear(context.logit_scale * directions, directions.new_zeros(len(directions)))

    def multipliers(self, images: OwnImages, prototypes: Tensor, logit_scale: float) -> Tensor:
        """a lambda_c of every class: (C,)."""
        zero_shot = (logit_scale * images.features @ prototypes.T).softmax(-1)  # (n, C)
        labels = F.one_hot(images.labels, len(prototypes)).to(zero_shot)  # (n, C)
        return self.constraint * (zero_shot * labels).sum(0) / labels.sum(0).clamp_min(1)
