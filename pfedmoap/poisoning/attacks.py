"""Clients that poison: they train as the protocol says, on data that are bad on purpose, and exaggerate what they send.

Everything that they send passes ingest: names, shapes, and a norm within its limit. They conspire: all have one target.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pfedmoap.client import FederatedData
from pfedmoap.errors import require
from pfedmoap.randomness import generator
from pfedmoap.server import Tensors

NONE, FLIPPING, BACKDOOR = "none", "label flipping", "backdoor"


@dataclass(frozen=True)
class Attack:
    """What is done to a federation, and by how many clients.

    Attributes:
        kind: "none"; "label flipping": attackers' images have the label of the next class; "backdoor": besides their
            images as they are, attackers train on copies with the trigger, labelled as the target class.
        attackers: how many clients attack; with "none" they are honest, and nobody counts them.
        boost: by what an attacker multiplies its update, as far as the limit on the norm allows. As many times as there
            are clients per attacker, the average becomes the attackers' (Bagdasaryan et al. 2020).
    """

    kind: str = NONE
    attackers: int = 0
    boost: float = 1.0

    def __post_init__(self):
        require(self, {
            "kind": (self.kind in (NONE, FLIPPING, BACKDOOR), f"'{NONE}', '{FLIPPING}' or '{BACKDOOR}'"),
            "attackers": (self.attackers >= 0, "a whole number >= 0"),
            "boost": (self.boost >= 1, "a number >= 1"),
        }, "the attack's ")

    def by(self, clients: int, seed: int) -> list[int]:
        """Who attacks, ascending; of more attackers the fewer are a part."""
        return sorted(generator(seed, "attackers").permutation(clients)[: self.attackers].tolist())


def target_class(data: FederatedData, seed: int) -> int:
    """The class that a backdoor leads to: the first of the first attacker's own, whatever their number."""
    first = int(generator(seed, "attackers").permutation(data.clients)[0])
    return int(data.train_labels[torch.from_numpy(data.train_rows[first])].min())


def flipped(data: FederatedData, attackers: Sequence[int], classes: int) -> FederatedData:
    """The attackers' labels moved by one class."""
    labels = data.train_labels.clone()
    for client in attackers:
        rows = torch.from_numpy(data.train_rows[client]).to(labels.device)
        labels[rows] = (labels[rows] + 1) % classes
    return replace(data, train_labels=labels)


def backdoored(
    data: FederatedData, attackers: Sequence[int], stamped: Tensor, target: int
) -> FederatedData:
    """The attackers' images as they are, and once more with the trigger and the target's label.

    Args:
        stamped: features of all training images with the trigger, in the shape of `data.train_features`.
    """
    count = len(data.train_labels)
    rows = [np.concatenate([own, own + count]) if client in attackers else own
            for client, own in enumerate(data.train_rows)]
    return replace(data, train_features=torch.cat([data.train_features, stamped], dim=1),  # (V, 2n, ...)
                   train_labels=torch.cat([data.train_labels, torch.full_like(data.train_labels, target)]),
                   train_rows=rows)


def boosted(upload: Tensors, download: Tensors, boost: float, limits: Mapping[str, float]) -> Tensors:
    """The upload with its distance to what was downloaded multiplied, as far as its norm stays within the limits.

    Args:
        limits: name -> the largest norm that is let in; a tensor that is over it anyway is scaled down to it.
    """
    sent = {}
    for name, tensor in upload.items():
        start = download.get(name, torch.zeros_like(tensor)).double()
        step, limit = tensor.double() - start, limits.get(name, float("inf"))
        factor = min(boost, _reach(start, step, limit))
        grown = start + factor * step
        sent[name] = (grown * min(1.0, limit / max(float(grown.norm()), 1e-12))).to(tensor.dtype)
    return sent


def _reach(start: Tensor, step: Tensor, limit: float) -> float:
    """The largest factor x >= 1 with |start + x step| <= limit; 1 if there is none."""
    a, b = float((step * step).sum()), float((start * step).sum())
    c = float((start * start).sum()) - limit**2
    if not np.isfinite(limit) or a == 0:
        return float("inf")
    root = b * b - a * c
    return max(1.0, (-b + root**0.5) / a) if root >= 0 else 1.0
