"""Tip-Adapter's cache: labelled image features that vote for their classes, by likeness (Zhang et al. 2022)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pfedmoap.method import OwnImages
from pfedmoap.server import Tensors


def caches(cached: Sequence[OwnImages], classes: int) -> Tensors:
    """The clients' caches, padded with rows of zeros: (clients, n, d) features and (clients, n, C) labels."""
    return {
        "cached_features": pad_sequence([images.features for images in cached], batch_first=True),
        "cached_labels": pad_sequence([F.one_hot(images.labels, classes).float() for images in cached], True),
    }


def widened(fixed: Tensors, classes: int) -> Tensors:
    """The same caches among more classes, the first ones theirs; the others get no votes."""
    labels = fixed["cached_labels"]  # (clients, n, C)
    return fixed | {"cached_labels": F.pad(labels, (0, classes - labels.shape[-1]))}


def votes(images: Tensor, keys: Tensor, labels: Tensor, weight: float, sharpness: float) -> Tensor:
    """a exp(-b (1 - f F^T)) Y: images (..., B, d), keys F (..., n, d), labels Y (..., n, C) -> (..., B, C).

    Args:
        weight: a; sharpness: b, how fast an image's vote falls with its distance.
    """
    likeness = images @ keys.mT  # (..., B, n)
    return weight * (sharpness * (likeness - 1)).exp() @ labels
