"""l2 neighbours among many prompts: one at a time as plainly as can be, and for many at once with the same result.

The plain way reads all n prompts once per client. Asked for many clients, matrix products are an order of magnitude
faster, but round differently: here they only leave out, with a bound on their rounding error, whoever cannot be among
the nearest; the few that remain are compared as in the plain way, so that the neighbours are the same to the last tie.
"""

import torch
from torch import Tensor

BLOCK = 2**18  # numbers in a block of prompts: what a core's cache holds


def distances(prompts: Tensor, own: Tensor) -> Tensor:
    """l2 distances of one prompt to n others: (n, D), (D,) -> (n,), float32, without a second (n, D)."""
    return torch.cat([torch.linalg.vector_norm(block - own, dim=1) for block in _blocks(prompts)])


def nearest(prompts: Tensor, row: int, count: int) -> list[int]:
    """The `count` rows nearest to a row, itself left out; nearest first, of equals the smaller row first."""
    order = distances(prompts, prompts[row]).argsort(stable=True).tolist()
    return [other for other in order if other != row][:count]


def nearest_of_many(prompts: Tensor, rows: list[int], count: int) -> list[list[int]]:
    """What `nearest` says for each of the rows, in memory for (rows, n) numbers."""
    count = min(count, len(prompts) - 1)
    if count < 1:
        return [[] for _ in rows]
    possible = _possible(prompts, torch.tensor(rows), count)  # (rows, n)
    found = []
    for row, candidates in zip(rows, possible, strict=True):
        others = candidates.nonzero().flatten()  # (candidates,), ascending
        order = distances(prompts[others], prompts[row]).argsort(stable=True)
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
    own = prompts[rows] - mean
    centred = [(own @ part.T, part.square().sum(1)) for part in (block - mean for block in _blocks(prompts))]
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
