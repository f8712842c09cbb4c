"""What a check finds, and how runs are played and compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pfedmoap.audit.adapter import Adapter, Step
from pfedmoap.audit.case import Case
from pfedmoap.client import Recipe
from pfedmoap.server import Tensors

PASSES, FAILS, DOCUMENTED, NOT_APPLICABLE = VERDICTS = ("passes", "fails", "as documented", "not applicable")
USUAL = Recipe(epochs=2, batch_size=4, lr=0.01, momentum=0.9, weight_decay=5e-4)
ONE_STEP = Recipe(epochs=1, batch_size=64, lr=0.05, momentum=0.0, weight_decay=0.0)  # with all images of a client
CLOSE = 1e-4  # what another order of summation may change


class Seen(NamedTuple):
    """What a check saw: whether the claim holds (None: it does not apply), in words, and in numbers."""

    holds: bool | None
    words: str
    numbers: dict[str, Any] = {}


NOTHING_TRAINED = Seen(None, "nothing is trained in rounds")


@dataclass(frozen=True)
class Finding:
    """A check's verdict, what it found in words, and its evidence in numbers, fit for JSON."""

    check: str
    verdict: str
    words: str
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def fails(self) -> bool:
        return self.verdict == FAILS


@dataclass(frozen=True)
class Played:
    """A run: each round's steps and uploads by client, and what the clients' models then say of the probes."""

    steps: list[dict[int, Step]]
    uploads: list[dict[int, Tensors]]
    scores: dict[int, Tensor]

    def tensors(self) -> Tensors:
        """All that was trained, sent and predicted, by a name of its own."""
        found = {f"scores {client}": scores for client, scores in self.scores.items()}
        for number, (steps, uploads) in enumerate(zip(self.steps, self.uploads, strict=True), start=1):
            for client, step in steps.items():
                found[f"loss {number} {client}"] = torch.tensor(step.loss)
                found |= {f"{number} {client} {name}": tensor for name, tensor in step.after.items()}
                found |= {f"upload {number} {client} {name}": tensor for name, tensor in uploads[client].items()}
        return found


def play(
    adapter: Adapter, case: Case, rounds: int = 2, recipe: Recipe = USUAL, clients: Sequence[int] | None = None,
    looking: bool = False,
) -> Played:  # fmt: skip
    """A run of some rounds.

    Args:
        clients: who trains, in this order; None: everyone.
        looking: the clients' models are also tested after each round, for nobody to see.
    """
    clients = range(case.clients) if clients is None else clients
    adapter.start(case)
    steps, sent = [], []
    for _ in range(rounds):
        steps.append({client: adapter.local_step(client, recipe) for client in clients})
        sent.append({client: adapter.upload(client) for client in clients})
        adapter.aggregate(sent[-1])
        for client in clients if looking else ():
            adapter.predict(client, case.probes)
    return Played(steps, sent, {client: adapter.predict(client, case.probes) for client in sorted(clients)})


def trains(adapter: Adapter, case: Case) -> bool:
    """Whether clients train anything in a round."""
    adapter.start(case)
    return bool(adapter.local_step(0, ONE_STEP).before)


def difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The largest difference between two sets of tensors; inf where they do not match."""
    if one.keys() != other.keys() or any(one[name].shape != other[name].shape for name in one):
        return float("inf")
    apart = [torch.where(one[name] == other[name], 0.0, one[name].double() - other[name].double()).abs().max().item()
             for name in one if one[name].numel()]
    return max(apart, default=0.0)


def copied(tensors: Mapping[str, Tensor]) -> Tensors:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
