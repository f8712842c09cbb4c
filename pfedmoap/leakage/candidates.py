"""Whose images an attack asks about: a client's own, others drawn exactly like them, and images that are public."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pfedmoap.data import ImageSet, Partition, Split
from pfedmoap.errors import UserError
from pfedmoap.randomness import generator

PUBLIC = 8  # images per class (and domain); of fewer left-over images, half


@dataclass(frozen=True)
class Candidates:
    """The images of which an adversary asks whether a client has trained on them.

    Members and non-members are of the same classes (and domains) in the same numbers, and drawn from the same training
    split uniformly at random, so that nothing but the training tells them apart.

    Attributes:
        client: its id.
        images: (n,) int64, indices into the training split; the members come first.
        labels: (n,) int64.
        member: (n,) bool.
        strata: (n,) int64, equal for images that are drawn alike.
    """

    client: int
    images: np.ndarray
    labels: np.ndarray
    member: np.ndarray
    strata: np.ndarray

    def halves(self, shadows: int, seed: int) -> np.ndarray:
        """Random halves to train shadow clients on: (shadows, n) bool.

        Each half has as many images of every class (and domain) as the client has, and the next one is its complement:
        every image is in exactly half of an even number of shadows (Carlini et al. 2022).
        """
        inside = np.zeros((shadows, len(self.images)), dtype=bool)
        for pair in range(0, shadows, 2):
            for stratum in np.unique(self.strata):
                own = np.flatnonzero(self.strata == stratum)
                drawn = generator(seed, "shadow", self.client, pair, int(stratum)).permutation(own)
                inside[pair, drawn[: len(own) // 2]] = True
            inside[pair + 1 : pair + 2] = ~inside[pair]
        return inside


def draw(
    imageset: ImageSet, shares: Partition, clients: Sequence[int], seed: int
) -> tuple[list[Candidates], np.ndarray]:
    """Candidates for every given client, and public images, which are nobody's and no one's candidates.

    The few shots of a partition are drawn at random, so that the training images that they leave over have the same
    distribution as those that were taken. Where a class has fewer left over than a client has of it, as many of the
    client's images are asked about as there are others.

    Returns:
        The candidates in the order of `clients`, and (p,) indices of public images of the training split.

    Raises:
        UserError: no images are left over to compare with.
    """
    strata = _strata(imageset.train)
    left = np.setdiff1d(np.arange(len(strata)), np.concatenate(shares.train))
    public, others = [], {}
    for stratum in np.unique(strata):
        drawn = generator(seed, "held out", int(stratum)).permutation(left[strata[left] == stratum])
        count = min(PUBLIC, len(drawn) // 2)
        public.append(drawn[:count])
        others[stratum] = drawn[count:]
    candidates = [_of_client(client, shares.train[client], others, strata, imageset.train.labels, seed)
                  for client in clients]
    if not any(len(one.images) for one in candidates):
        raise UserError(f"{imageset.name} has no training images that nobody trains on, which membership is measured "
                        f"against: give clients fewer shots.")
    return candidates, np.sort(np.concatenate(public))


def _of_client(
    client: int, own: np.ndarray, others: dict[int, np.ndarray], strata: np.ndarray, labels: np.ndarray, seed: int
) -> Candidates:
    inside, outside = [own[:0]], [own[:0]]
    for stratum in np.unique(strata[own]):
        draws = generator(seed, "candidates", client, int(stratum))
        members, rest = draws.permutation(own[strata[own] == stratum]), draws.permutation(others[stratum])
        count = min(len(members), len(rest))
        inside.append(members[:count])
        outside.append(rest[:count])
    images = np.concatenate([*map(np.sort, inside), *map(np.sort, outside)])
    member = np.arange(len(images)) < len(images) // 2
    return Candidates(client, images, labels[images], member, strata[images])


def _strata(split: Split) -> np.ndarray:
    """(n,) int64: the class, with domains the pair of class and domain."""
    if split.domains is None:
        return split.labels
    return split.labels * (int(split.domains.max()) + 1) + split.domains
