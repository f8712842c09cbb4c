"""pFedPrompt: a shared prompt, and a local cache of the client's own image features (Guo et al. 2023a).

There is no public implementation; this form of the cache, Tip-Adapter's, is an assumption.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pfedmoap.errors import require
from pfedmoap.method import Common, Context, Method, OwnImages
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
        """At test time the caches, padded with rows of zeros: (clients, n, d) features and (clients, n, C) labels."""
        if cached is None:
            return {}
        classes = len(context.handwritten)
        return {
            "cached_features": pad_sequence([images.features for images in cached], batch_first=True),
            "cached_labels": pad_sequence([F.one_hot(images.labels, classes).float() for images in cached], True),
        }

    def logits(self, model: Tensors, fixed: Tensors, images: Tensor, context: Common) -> Tensor:
        logits = super().logits(model, fixed, images, context)  # (clients, B, C)
        if not fixed:
            return logits
        likeness = images @ fixed["cached_features"].transpose(1, 2)  # (clients, B, n)
        votes = (self.cache_sharpness * (likeness - 1)).exp()  # (clients, B, n)
        return logits + self.cache_weight * votes @ fixed["cached_labels"]
