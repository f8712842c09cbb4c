"""The server: the shared tensors, and the pool of all clients' prompts that experts are lent from."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from pfedmoap import neighbours
from pfedmoap.randomness import generator

Tensors = dict[str, Tensor]
TOGETHER = 256  # clients whose neighbours are found at once


class Pool:
    """Every client's last uploaded prompt (paper equation 7).

    Attributes:
        entries: client -> prompt (m, e), on the CPU.
    """

    def __init__(self, entries: Mapping[int, Tensor] | None = None):
        self.entries = dict(sorted((entries or {}).items()))
        self._forget()

    def __contains__(self, client: int) -> bool:
        return client in self.entries

    def __getitem__(self, client: int) -> Tensor:
        return self.entries[client]

    def __len__(self) -> int:
        return len(self.entries)

    def replace(self, uploads: Mapping[int, Tensor]) -> None:
        """Enters the round's prompts, overwriting their clients' previous entries."""
        self.entries = dict(sorted({**self.entries, **uploads}.items()))
        self._forget()

    def _forget(self) -> None:
        """Drops what was worked out from the entries."""
        self._rows = {client: row for row, client in enumerate(self.entries)}
        self._stacked: tuple[Tensor, Tensor] | None = None
        self._median: float | None = None
        self._expected: dict[int, int] = {}  # client -> its place among those that are expected
        self._neighbours: dict[int, list[int]] = {}

    def _by_client(self) -> tuple[Tensor, Tensor]:
        """Client ids, ascending, (entries,) and their prompts, (entries, m*e) float32."""
        if self._stacked is None:
            prompts = torch.stack(list(self.entries.values())).flatten(1).float()
            self._stacked = torch.tensor(list(self.entries)), prompts
        return self._stacked

    def distances(self, client: int) -> tuple[Tensor, Tensor]:
        """l2 distances from a client's entry to all entries: (clients, distances), each (entries,), by client id."""
        clients, prompts = self._by_client()
        return clients, neighbours.distances(prompts, self.entries[client].flatten().float())

    def median_squared_distance(self) -> float:
        """Median over all pairs of entries of their squared l2 distance; 0 with fewer than two entries."""
        if self._median is None:
            pairs = torch.pdist(torch.stack(list(self.entries.values())).flatten(1).double())  # 400 MB for 10,000
            self._median = float(np.median(pairs.square_().numpy(), overwrite_input=True)) if len(pairs) else 0.0
        return self._median

    def expect(self, clients: Iterable[int]) -> None:
        """Says whose neighbours are going to be asked for, in this order: they are found many at a time."""
        self._expected = {client: place for place, client in enumerate(c for c in clients if c in self.entries)}

    def nearest(self, client: int, count: int) -> list[int]:
        """The `count` other clients whose prompts are nearest to the client's own, nearest first.

        Ties go to the smaller client id; fewer are returned if the pool holds fewer (section 3.2).
        """
        clients, prompts = self._by_client()
        if client not in self._expected:
            return clients[neighbours.nearest(prompts, self._rows[client], count)].tolist()
        if len(self._neighbours.get(client, ())) < min(count, len(self) - 1):
            place = self._expected[client]
            group = list(self._expected)[place : place + TOGETHER]
            found = neighbours.nearest_of_many(prompts, [self._rows[one] for one in group], count)
            self._neighbours |= {one: clients[own].tolist() for one, own in zip(group, found, strict=True)}
        return self._neighbours.get(client, [])[:count]

    def first(self, client: int, count: int, order: Sequence[int]) -> list[int]:
        """The first `count` other clients of `order` that are in the pool."""
        return [other for other in order if other in self.entries and other != client][:count]


class Server:
    """What the server holds between rounds.

    Attributes:
        shared: the global tensors by name ("prompt": (m, e) for most methods).
        pool: the clients' last prompts; methods without a pool leave it empty.
        clients: N, how many clients there are.
        round: the round that downloads are made for, from 1.
        seed: the run's seed.
        order: the order in which everyone is lent experts (`fixed_order`); None: the nearest first.
    """

    def __init__(
        self, shared: Tensors, pool: Pool | None = None, clients: int = 0, seed: int = 0,
        order: Sequence[int] | None = None,
    ):  # fmt: skip
        self.shared = shared
        self.pool = pool or Pool()
        self.clients, self.seed, self.round, self.order = clients, seed, 1, order

    def experts(self, client: int, count: int) -> list[int]:
        """The clients whose prompts a client is lent: `count` of the pool, or fewer if it holds fewer."""
        if self.order is None:
            return self.pool.nearest(client, count)
        return self.pool.first(client, count, self.order)


def fixed_order(clients: int, seed: int) -> list[int]:
    """The switch `expert_selection`: one random order of all clients, for every client and round of a run."""
    return generator(seed, "expert order").permutation(clients).tolist()


def weighted_average(uploads: Mapping[int, Tensor], sizes: Mapping[int, int]) -> Tensor:
    """FedAvg (equation 6): sum over clients of n_i / n times the upload, whatever the order of arrival.

    Args:
        uploads: client -> tensor, all of one shape.
        sizes: client -> n_i, its number of training images.
    """
    clients = sorted(uploads)
    weights = torch.tensor([sizes[client] for client in clients], dtype=torch.float64)
    stacked = torch.stack([uploads[client] for client in clients]).double()  # (clients, ...)
    return torch.tensordot(weights / weights.sum(), stacked, dims=1).to(uploads[clients[0]].dtype)
