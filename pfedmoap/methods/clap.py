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

    lambda_c is the probability that zero-shot CLIP gives to class c, averaged over the client's training images of c,
    and stays as it is: the published multipliers without outer iterations. Where zero-shot is good, the probe is held.
    A class that the client has no images of is not held (lambda_c = 0).

    Assumed: t_c of length 1, and the sum over classes as the paper has it (the published code does not normalise t_c
    and takes the mean). The minimum is found by L-BFGS in float64 (published: 300 epochs of SGD on augmented images).

    Attributes:
        constraint: a, weight of the constraint (1); 0 leaves a probe that only starts at zero-shot.
    """

    name: ClassVar[str] = "clap"
    title: ClassVar[str] = "CLAP"
    constraint: float = 1.0

    def __post_init__(self):
        require(self, {"constraint": (self.constraint >= 0, "a number >= 0")}, "clap's ")

    def fit(self, images: OwnImages, context: Context) -> Linear:
        exact = OwnImages(images.features.double(), images.labels)
        prototypes = context.handwritten.double()  # (C, d)
        multipliers = self.multipliers(exact, prototypes, context.logit_scale)
        weights = prototypes.clone().requires_grad_()
        solver = torch.optim.LBFGS([weights], max_iter=500, tolerance_grad=1e-7, tolerance_change=1e-12,
                                   history_size=20, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            solver.zero_grad()
            logits = context.logit_scale * exact.features @ F.normalize(weights, dim=-1).T  # (n, C)
            value = F.cross_entropy(logits, exact.labels) + multipliers @ (weights - prototypes).square().sum(1)
            value.backward()
            return value

        solver.step(loss)
        directions = F.normalize(weights.detach(), dim=-1)
        return Linear(context.logit_scale * directions, directions.new_zeros(len(directions)))

    def multipliers(self, images: OwnImages, prototypes: Tensor, logit_scale: float) -> Tensor:
        """a lambda_c of every class: (C,)."""
        zero_shot = (logit_scale * images.features @ prototypes.T).softmax(-1)  # (n, C)
        labels = F.one_hot(images.labels, len(prototypes)).to(zero_shot)  # (n, C)
        return self.constraint * (zero_shot * labels).sum(0) / labels.sum(0).clamp_min(1)
