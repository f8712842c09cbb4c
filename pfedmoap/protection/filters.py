"""Filters on a round's uploads: which of them reach the pool, and what is averaged.

A filter looks at uploads as they are, so that it cannot work where the server sees no more than their sum (secure
aggregation). It knows no client's data: one whose images are unlike the others' looks like an attacker, and an attacker
that stays as near to the others as they are to each other does not look like one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pfedmoap.errors import refuse_unknown, require
from pfedmoap.federation import Federation
from pfedmoap.server import Tensors


@dataclass(frozen=True)
class Admitted:
    """What a filter makes of a round's uploads.

    Attributes:
        pool: client -> what reaches the pool.
        averaged: client -> what is averaged in its name.
        refused: client -> why nothing of it reaches either.
    """

    pool: Mapping[int, Tensors]
    averaged: Mapping[int, Tensors]
    refused: Mapping[int, str]


Filter = Callable[[Mapping[int, Tensors], Mapping[int, Tensor]], Admitted]  # the round's uploads, the pool's entries


def everything(uploads: Mapping[int, Tensors], entries: Mapping[int, Tensor]) -> Admitted:
    """No filter: all that passed ingest is let in."""
    return Admitted(uploads, uploads, {})


@dataclass(frozen=True)
class MedianFilter:
    """Refuses uploads that are far from the median of what clients sent.

    The median is taken coordinate by coordinate over the round's uploads and, for methods whose pool holds what clients
    upload, over the last entries of those that do not upload now. An upload is refused if its l2 distance to it is more
    than `limit` times the median of all these distances. At least half of them all are therefore within.

    Attributes:
        limit: a multiple of the median distance (2: on validation draws of `nature` few honest uploads are beyond it).
    """

    limit: float = 2.0

    def __post_init__(self):
        require(self, {"limit": (self.limit >= 1, "a number >= 1, a multiple of the median distance")},
                "the median filter's ")

    def __call__(self, uploads: Mapping[int, Tensors], entries: Mapping[int, Tensor]) -> Admitted:
        if not uploads:
            return Admitted({}, {}, {})
        sent = {client: _flat(upload) for client, upload in uploads.items()}
        if all(set(upload) == {"prompt"} for upload in uploads.values()):
            sent |= {client: _flat({"prompt": entry}) for client, entry in entries.items() if client not in sent}
        points = np.stack(list(sent.values()))  # (uploads and entries, numbers)
        distances = dict(zip(sent, np.linalg.norm(points - np.median(points, axis=0), axis=1), strict=True))
        usual = float(np.median(list(distances.values())))
        refused = {client: f"its distance to the median of the uploads, {distances[client]:.3g}, is beyond "
                           f"{self.limit:g} times the usual one, {usual:.3g}"
                   for client in uploads if distances[client] > self.limit * usual}
        kept = {client: upload for client, upload in uploads.items() if client not in refused}
        return Admitted(kept, kept, refused)


@dataclass(frozen=True)
class TrimmedFilter:
    """Averages without the extremes: a coordinate-wise trimmed mean in FedAvg's place (Yin et al. 2018).

    Of every number the `limit` share of the uploads at either end, rounded up, is left out, as long as one is left.
    What remains counts equally, as n_i is what a client says of itself. The pool takes all uploads as they are, so that
    experts are not filtered.

    Attributes:
        limit: the share that is cut at either end (0.3, for three attackers of ten).
    """

    limit: float = 0.3

    def __post_init__(self):
        require(self, {"limit": (0 < self.limit < 0.5, "a number > 0 and < 0.5, the share cut at either end")},
                "the trimmed filter's ")

    def __call__(self, uploads: Mapping[int, Tensors], entries: Mapping[int, Tensor]) -> Admitted:
        if not uploads:
            return Admitted({}, {}, {})
        names = next(iter(uploads.values()))
        mean = {name: self._mean(torch.stack([upload[name] for upload in uploads.values()])) for name in names}
        return Admitted(uploads, dict.fromkeys(uploads, mean), {})

    def _mean(self, stacked: Tensor) -> Tensor:
        """(uploads, ...) -> (...)."""
        count = len(stacked)
        cut = min(int(np.ceil(self.limit * count - 1e-9)), (count - 1) // 2)
        kept = stacked.double().sort(dim=0).values[cut : count - cut]
        return kept.mean(0).to(stacked.dtype)


FILTERS: dict[str, Callable[..., Filter]] = {"none": lambda: everything, "median": MedianFilter,
                                             "trimmed": TrimmedFilter}


def build_filter(name: str = "none", limit: float | None = None) -> Filter:
    """A filter by name; None: its own limit, and "none" has none.

    Raises:
        UserError: an unknown name, or a limit out of range.
    """
    refuse_unknown([name], list(FILTERS), "filter")
    return FILTERS[name]() if limit is None or name == "none" else FILTERS[name](limit)


def take_in(federation: Federation, uploads: Mapping[int, Tensors], chosen: Filter) -> Mapping[int, str]:
    """Enters and averages what a filter lets in of a round's uploads; returns client -> why it was refused."""
    admitted = chosen(uploads, federation.server.pool.entries)
    if admitted.averaged:
        federation.cache(admitted.pool)
        federation.average(admitted.averaged)
    return admitted.refused


def _flat(upload: Tensors) -> np.ndarray:
    return torch.cat([upload[name].flatten() for name in sorted(upload)]).double().numpy()
