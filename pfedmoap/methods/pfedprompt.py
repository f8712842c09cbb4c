"""pFedPrompt: a shared prompt, and a local cache of the client's own image features (Guo et al. 2023a).

There is no public implementation; this form of the cache, Tip-Adapter's, is an assumption.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pfedmoap.errors import require
from pfedmoap.method import Common, Context, Method, OwnImages
from pfedmoap.methods.image_cache import caches, votes, widened
from pfedmoap.server import Tensors


@dataclass(frozen=True)
class PFedPrompt(Method):
    """z = s f t(p_g)^T + a exp(-b (1 - f F_i^T)) Y_i, with the client's training features F_i and labels Y_i.

    Shared: the prompt, trained as PromptFL's. Personal: the cache, which enters at test time only and is never sent.
    The form of the cache (Tip-Adapter's) and its defaults are assumptions.

    Attributes:
        cache_weight: a, weight of the cache (1).
        cache_sharpness: b, how fast an image's vote falls with its distance (5.5).
    """

    name: ClassVar[str] = "pfedprompt"
    title: ClassVar[str] = "pFedPrompt"
    remembers_images: ClassVar[bool] = True
    cache_weight: float = 1.0
    cache_sharpness: float = 5.5

    def __post_init__(self):
        require(self, {
            "cache_weight": (self.cache_weight >= 0, "a number >= 0"),
            "cache_sharpness": (self.cache_sharpness > 0, "a number > 0"),
        }, "pfedprompt's ")

    def fixed(
        self, model: Tensors, downloads: Sequence[Tensors], context: Context, cached: Sequence[OwnImages] | None = None
    ) -> Tensors:
        """The caches, at test time only."""
        return {} if cached is None else caches(cached, len(context.handwritten))

    def widen(
        self, model: Tensors, fixed: Tensors, downloads: Sequence[Tensors], context: Context
    ) -> tuple[Tensors, Tensors]:
        """A class that the client has no images of is scored by its name alone."""
        return model, widened(fixed, len(context.handwritten))

    def logits(self, model: Tensors, fixed: Tensors, images: Tensor, context: Common) -> Tensor:
        logits = super().logits(model, fixed, images, context)  # (clients, B, C)
        if not fixed:
            return logits
        return logits + votes(images, fixed["cached_features"], fixed["cached_labels"], self.cache_weight,
                              self.cache_sharpness)
