"""The server: the shared tensors, and the pool of all clients' prompts that experts are lent from."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

Tensors = dict[str, Tensor]
GROUP = 256  # clients whose neighbours are found at once
BLOCK = 2**18  # numbers in a block of prompts: what a core's cache holds


class Pool:
    """Every client's last uploaded prompt (paper equation 7).

    Attributes:
        entries: client -> prompt (m, e), on the CPU.
    """

    def __init__(self, entries: Mapping[int, Tensor] | None = None):
        self.restore(entries or {})

    def __contains__(self, client: int) -> bool:
        return client in self.entries

    def __getitem__(self, client: int) -> Tensor:
        return self.entries[client]

    def __len__(self) -> int:
        return len(self.entries)

    def restore(self, entries: Mapping[int, Tensor]) -> None:
        """Makes these the pool's entries, and no others."""
        self.entries = dict(sorted(entries.items()))
        self._forget()

    def replace(self, uploads: Mapping[int, Tensor]) -> None:
        """Enters the round's prompts, overwriting their clients' previous entries."""
        self.restore({**self.entries, **uploads})

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
        return clients, l2_distances(prompts, self.entries[client].flatten().float())

    def median_squared_distance(self) -> float:
        """Median over all pairs of entries of their squared l2 distance; 0 with fewer than two entries."""
        if len(self) < 2:
            return 0.0
        if self._median is None:
            pairs = torch.pdist(torch.stack(list(self.entries.values())).flatten(1).double())  # 400 MB for 10,000
            self._median = float(np.median(pairs.square_().numpy(), overwrite_input=True))
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
            return clients[nearest_to(prompts, self._rows[client], count)].tolist()
        if len(self._neighbours.get(client, ())) < min(count, len(self) - 1):
            place = self._expected[client]
            group = list(self._expected)[place : place + GROUP]
            found = nearest_of_many(prompts, [self._rows[member] for member in group], count)
            self._neighbours |= {member: clients[rows].tolist() for member, rows in zip(group, found, strict=True)}
        return self._neighbours.get(client, [])[:count]


class Server:
    """What the server holds between rounds.

    Attributes:
        shared: the global tensors by name ("prompt": (m, e) for most methods).
        pool: the clients' last prompts; methods without a pool leave it empty.
        clients: N, how many clients there are.
        round: the round that downloads are made for, from 1.
        seed: the run's seed.
    """

    def __init__(self, shared: Tensors, pool: Pool | None = None, clients: int = 0, seed: int = 0):
        self.shared = dict(shared)
        self.pool = Pool() if pool is None else pool
        self.clients, self.seed, self.round = clients, seed, 1


def size_of(tensors: Tensors) -> int:
    """Bytes that the tensors take on the wire."""
    return sum(tensor.nbytes for tensor in tensors.values())


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


# Neighbours among many prompts: one client at a time as plainly as can be, and many at once with the same result.
#
# The plain way reads all n prompts once per client. Asked for many clients, matrix products are an order of magnitude
# faster, but round differently. Here they only leave out, with a bound on their rounding error, whoever cannot be among
# the nearest. The few that remain are compared in the plain way, so that the neighbours are the same to the last tie.


def l2_distances(prompts: Tensor, prompt: Tensor) -> Tensor:
    """l2 distances of one prompt to n others: (n, D), (D,) -> (n,), float32, without a second (n, D)."""
    return torch.cat([torch.linalg.vector_norm(block - prompt, dim=1) for block in _blocks(prompts)])


def nearest_to(prompts: Tensor, row: int, count: int) -> list[int]:
    """The `count` rows nearest to a row, itself left out; nearest first, of equals the smaller row first."""
    order = l2_distances(prompts, prompts[row]).argsort(stable=True).tolist()
    return [other for other in order if other != row][:count]


def nearest_of_many(prompts: Tensor, rows: list[int], count: int) -> list[list[int]]:
    """What `nearest_to` says for each of the rows, in memory for (rows, n) numbers."""
    count = min(count, len(prompts) - 1)
    if count < 1:
        return [[] for _ in rows]
    possible = _possible(prompts, torch.tensor(rows), count)  # (rows, n)
    found = []
    for row, candidates in zip(rows, possible, strict=True):
        others = candidates.nonzero().flatten()  # (candidates,), ascending
        order = l2_distances(prompts[others], prompts[row]).argsort(stable=True)
        found.append(others[order][:count].tolist())
    return found


def _possible(prompts: Tensor, rows: Tensor, count: int) -> Tensor:
    """Which of n prompts may be among the `count` nearest of each row: (rows, n) bool.

    With c = p - mean, |c_i - c_j|^2 = |c_i|^2 + |c_j|^2 - 2 c_i c_j is off by at most (D + 8) u (|c_i| + |c_j|)^2, and
    the square of the plain distance by at most (D + 8) u of itself, where u = eps / 2 is the unit roundoff: `slack` is
    twice that. What is not finite is left in.
    """
    number = torch.finfo(prompts.dtype)
    slack = (prompts.shape[1] + 16) * number.eps
    mean = prompts.mean(0)
    asked = prompts[rows] - mean
    centred = [(asked @ block.T, block.square().sum(1)) for block in (block - mean for block in _blocks(prompts))]
    products = torch.cat([product for product, _ in centred], dim=1)  # (rows, n)
    squares = torch.cat([square for _, square in centred])  # (n,)
    estimate = squares[rows, None] + squares - 2 * products  # (rows, n)
    error = slack * (squares[rows, None].sqrt() + squares.sqrt()).square() + number.tiny
    most = estimate + error
    most[torch.arange(len(rows)), rows] = torch.inf
    farthest = most.kthvalue(count, dim=1, keepdim=True).values  # (rows, 1): `count` prompts are not beyond
    possible = ~((estimate - error) * (1 - slack) > farthest * (1 + slack))
    possible[torch.arange(len(rows)), rows] = False
    return possible


def _blocks(prompts: Tensor) -> tuple[Tensor, ...]:
    return prompts.split(max(1, BLOCK // prompts.shape[1]))
