"""Images that lost their labels, and classes that lost their names, as in the released code (SPEC 9)."""

from dataclasses import replace

import numpy as np

from pfedmoap.data import ImageSet, Partition, Split
from pfedmoap.randomness import generator


def mispaired(imageset: ImageSet, shares: Partition, seed: int) -> Partition:
    """The switch `label_pairing`: every client keeps its labels, but the images come from the top of its domain's list.

    The k-th image of the domain's full list gets the label of the k-th image of the client's share. The share is read
    in a random order (from the seed), as the released code's partition is shuffled. The list has the order that the set
    was read in. So about one label in C is right, and all clients of a domain use the same leading images.

    Args:
        shares: as `domain_dirichlet` deals them, every client within one domain.
    """
    (train, train_labels), (test, test_labels) = (
        _mispaired(getattr(imageset, split), split, getattr(shares, split), seed) for split in ("train", "test")
    )
    return Partition(train, test, train_labels, test_labels, shares.notes)


def _mispaired(
    split: Split, name: str, shares: tuple[np.ndarray, ...], seed: int
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    images, labels = [], []
    for client, share in enumerate(shares):
        listed = np.flatnonzero(split.domains == split.domains[share[0]])
        images.append(listed[: len(share)])
        labels.append(split.labels[generator(seed, "mispaired", name, client).permutation(share)])
    return tuple(images), tuple(labels)


def with_shuffled_names(imageset: ImageSet, seed: int) -> ImageSet:
    """The switch `class_names`: a set with domains gets its class names in random order, one in place on average.

    In the released code the order is new in every process; here it is drawn from the run's seed, so that a run can be
    repeated. Sets without domains are returned as they are.
    """
    if not imageset.domain_names:
        return imageset
    order = generator(seed, "class names").permutation(len(imageset.class_names))
    return replace(imageset, class_names=tuple(imageset.class_names[label] for label in order))
