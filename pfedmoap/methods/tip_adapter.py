"""Tip-Adapter: zero-shot CLIP and a cache of the client's own image features, without training (Zhang et al. 2022)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pfedmoap.errors import require
from pfedmoap.method import Common, Context, OwnImages
from pfedmoap.methods.classifier import Classifier
from pfedmoap.methods.image_cache import caches, votes, widened
from pfedmoap.server import Tensors


@dataclass(frozen=True)
class TipAdapter(Classifier):
    """z = s f t^T + a exp(-b (1 - f F_i^T)) Y_i, with hand-written prompts and the client's training features F_i.

    Zhang et al. choose a and b on validation images, which clients do not have here. The tables have a = 1, where their
    search starts, and a = 100, which the embedded sets' validation draws ask for.

    Attributes:
        cache_weight: a, weight of the cache (1).
        cache_sharpness: b, how fast an image's vote falls with its distance (5.5).
    """

    name: ClassVar[str] = "tip_adapter"
    title: ClassVar[str] = "Tip-Adapter"
    cache_weight: float = 1.0
    cache_sharpness: float = 5.5

    def __post_init__(self):
        require(self, {
            "cache_weight": (self.cache_weight >= 0, "a number >= 0"),
            "cache_sharpness": (self.cache_sharpness > 0, "a number > 0"),
        }, f"{self.name}'s ")

    def fixed(
        self, model: Tensors, downloads: Sequence[Tensors], context: Context, cached: Sequence[OwnImages] | None = None
    ) -> Tensors:
        return caches(cached or (), len(context.handwritten))

    def widen(
        self, model: Tensors, fixed: Tensors, downloads: Sequence[Tensors], context: Context
    ) -> tuple[Tensors, Tensors]:
        """A class that the client has no images of is scored by its name alone."""
        return model, widened(fixed, len(context.handwritten))

    def logits(self, model: Tensors, fixed: Tensors, images: Tensor, context: Common) -> Tensor:
        zero_shot = context.logit_scale * images @ context.handwritten.T  # (clients, B, C)
        return zero_shot + votes(images, fixed["cached_features"], fixed["cached_labels"], self.cache_weight,
                                 self.cache_sharpness)
