"""Class means: the nearest prototype among the client's own classes, nothing trained (Snell et al. 2017)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from pfedmoap.method import Context, OwnImages
from pfedmoap.methods.classifier import Classifier, Linear, only


@dataclass(frozen=True)
class ClassMeans(Classifier):
    """s times the cosine to the mean of each class's training features (Snell et al. have the Euclidean distance).

    Classes that the client has no training images of are never answered (their logits are -inf).
    """

    name: ClassVar[str] = "class_means"
    title: ClassVar[str] = "Class means"

    def fit(self, images: OwnImages, context: Context) -> Linear:
        classes, place = images.labels.unique(return_inverse=True)  # (c,), (n,)
        belongs = place == torch.arange(len(classes), device=place.device)[:, None]  # (c, n)
        sums = belongs.to(images.features) @ images.features  # (c, d)
        means = F.normalize(sums, dim=-1)
        return only(classes, Linear(context.logit_scale * means, means.new_zeros(len(classes))),
                    len(context.handwritten))
