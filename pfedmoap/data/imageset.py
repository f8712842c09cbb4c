"""What every data set looks like to the rest of the package."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Split:
    """Images with their labels, in a fixed order.

    Attributes:
        images: `images[i]` is a PIL image in mode RGB; nothing is decoded or drawn before it is asked for.
        labels: (n,) int64, indices into the set's `class_names`.
        domains: (n,) int64, indices into the set's `domain_names`; None for sets without domains.
        clients: (n,) int64, indices into the set's `clients`; None for sets that nobody owns.
    """

    images: Sequence[Image.Image]
    labels: np.ndarray
    domains: np.ndarray | None = None
    clients: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageSet:
    """A classification data set.

    Attributes:
        name: as in `Experiment.dataset`.
        class_names: prompt-ready ("pink primrose", no underscores), in label order.
        train, test: the two splits that the protocols use.
        fingerprint: hex digest of what defines the content (files and labels, or recipe version and seed);
            the feature cache and the records are keyed by it.
        source: one line for people: where it was found and which split was used ("not CoOp's split").
        augment: whether training views are randomly cropped and flipped (photographs: yes; digits, CIFAR: no).
        domain_names: in domain order; empty for sets without domains.
        clients: names of the clients that own the images; empty for sets that a partition deals out.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    test: Split
    fingerprint: str
    source: str
    augment: bool = True
    domain_names: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
