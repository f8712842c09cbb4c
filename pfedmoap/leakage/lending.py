"""What other clients learn: a borrower from the prompts that it is lent, everyone from the averaged prompt."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pfedmoap.federation import Federation
from pfedmoap.leakage import attacks
from pfedmoap.leakage.candidates import Candidates
from pfedmoap.leakage.listening import Heard
from pfedmoap.leakage.scoring import auc


def owners(pool: Mapping[int, Tensor], experts: Tensor) -> list[int]:
    """Whose entries experts (K, m, e) are; they travel without names, so that only the server can ask this."""
    return [next(client for client, entry in pool.items() if torch.equal(entry, expert)) for expert in experts]


def linked(old: Tensor, new: Tensor) -> list[int]:
    """For each of the experts of a round the place of the most similar one of the round before.

    It is how a borrower could follow a lender without knowing who it is. Experts differ little from each other, so that
    their mean is taken away before they are compared (by cosine).

    Args:
        old: (K', m, e); new: (K, m, e).
    """
    before, after = (F.normalize((experts - experts.mean(0)).flatten(1), dim=1) for experts in (old, new))
    return (after @ before.T).argmax(1).tolist()


def borrowed(federation: Federation, heard: Sequence[Heard]) -> dict[str, Any]:
    """Whose prompts each client is lent after the last round, and whether it can follow a lender over two rounds.

    Returns:
        "lenders": borrower -> ids; "linked": the share of prompts, lent before and after the last round, that `linked`
        assigns to the right predecessor, and "guessed": the same of guessing; None where there is nothing to link.
    """
    server, last, lenders, right, guesses = federation.server, heard[-1], {}, [], []
    for client in range(federation.data.clients):
        new = federation.method.download(server, client).get("experts")
        if new is None or not len(new):
            continue
        lenders[client] = owners(server.pool.entries, new)
        old = last.downloads.get(client, {}).get("experts")
        if old is None or not len(old):
            continue
        known = owners(last.pool, old)
        places = linked(old, new)
        both = [(place, owner) for place, owner in zip(places, lenders[client], strict=True) if owner in known]
        right += [known[place] == owner for place, owner in both]
        guesses += [1 / len(known)] * len(both)
    return {"lenders": lenders, "linked": _mean(right), "guessed": _mean(guesses)}


def average_leak(
    federation: Federation, start: Tensor, asked: Sequence[Candidates], features: Tensor
) -> dict[str, float]:
    """The attacks without shadows on the averaged prompt, which every client has: area under the curve.

    Members are all clients' candidates together: whose an image was, the average cannot tell.

    Args:
        start: the shared prompt (m, e) before the last round.
        features: (n, d) of the training split.
    """
    images, labels, member = (np.concatenate([getattr(one, name) for one in asked])
                              for name in ("images", "labels", "member"))
    shared = federation.server.shared["prompt"]
    labels = torch.from_numpy(labels).to(features.device)
    sure = attacks.confidence(torch.stack([shared, start]), features[images], labels, federation.context)  # (2, n)
    scores = {attacks.LOSS: attacks.loss_threshold(sure[0]), attacks.CALIBRATED: attacks.calibrated_loss(*sure)}
    return {name: auc(score.cpu().numpy(), member) for name, score in scores.items()}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
