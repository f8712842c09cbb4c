"""What a user would pick instead: a classifier that every client fits to its own images' features, and to no others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pfedmoap.errors import PfedmoapError
from pfedmoap.method import Common, Context, Method, OwnImages
from pfedmoap.server import Tensors


class Linear(NamedTuple):
    """A classifier of image features: weights (C, d) and biases (C,); -inf for classes that it never answers."""

    weights: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Classifier(Method):
    """Base. Shared: nothing. Personal: the classifier, fitted when the client is tested.

    It is fitted to the client's training images as they are tested, without augmentation and without randomness. So it
    is the same after every round, and `from_profile` gives it one.

    A subclass fits weights and biases, or overrides `fixed` and `logits`.
    """

    plain: ClassVar[bool] = True
    remembers_images: ClassVar[bool] = True

    def initial_shared(self, context: Context) -> Tensors:
        return {}

    def fit(self, images: OwnImages, context: Context) -> Linear:
        """The classifier of one client, given its training images."""
        raise PfedmoapError(f"{type(self).__name__} overrides neither `fit` nor `fixed`: give it one of them.")

    def fixed(
        self, model: Tensors, downloads: Sequence[Tensors], context: Context, cached: Sequence[OwnImages] | None = None
    ) -> Tensors:
        fits = [self.fit(images, context) for images in cached or ()]
        return {
            "weights": torch.stack([fit.weights for fit in fits]).to(context.handwritten),  # (clients, C, d)
            "bias": torch.stack([fit.bias for fit in fits]).to(context.handwritten),  # (clients, C)
        }

    def widen(
        self, model: Tensors, fixed: Tensors, downloads: Sequence[Tensors], context: Context
    ) -> tuple[Tensors, Tensors]:
        """A class that nobody has images of is never answered."""
        more = len(context.handwritten) - fixed["bias"].shape[1]
        return model, {"weights": F.pad(fixed["weights"], (0, 0, 0, more)),
                       "bias": F.pad(fixed["bias"], (0, more), value=float("-inf"))}

    def logits(self, model: Tensors, fixed: Tensors, images: Tensor, context: Common) -> Tensor:
        return images @ fixed["weights"].mT + fixed["bias"][:, None]  # (clients, B, C)


def only(classes: Tensor, fitted: Linear, count: int) -> Linear:
    """A classifier of some classes as one of all C: the others are never answered.

    Args:
        classes: (c,) the labels that the c rows of `fitted` are for.
        count: C.
    """
    weights, bias = fitted
    return Linear(weights.new_zeros(count, weights.shape[1]).index_copy(0, classes, weights),
                  bias.new_full((count,), float("-inf")).index_copy(0, classes, bias))
