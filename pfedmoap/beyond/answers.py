"""What clients' models answer for images that are not theirs, among classes that they may never have seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pfedmoap.evaluation import (
    GPU_TEST_COHORT,
    NO_ANSWER,
    TEST_BATCH,
    TEST_COHORT,
    Downloads,
    alike,
    answer,
    chunks,
    own_images,
    stack,
)
from pfedmoap.federation import Federation
from pfedmoap.method import Context
from pfedmoap.server import Tensors

H, H_ALL = "H", "H_among_all"
H_OF = {H: ("local", "base", "new"), H_ALL: ("base_among_all", "new_among_all")}


@dataclass(frozen=True)
class Models:
    """The models that a federation's clients would be tested with now, and what they would download.

    Attributes:
        federation: whose clients.
        tested, downloads: client -> tensors.
    """

    federation: Federation
    tested: Mapping[int, Tensors]
    downloads: Mapping[int, Tensors]

    @classmethod
    def of(cls, federation: Federation) -> "Models":
        method, data = federation.method, federation.data
        federation.server.pool.expect(range(data.clients))
        downloads = dict(Downloads(method, federation.server, data.clients))
        return cls(federation, {client: method.tested(lent, federation.personal[client], client, federation.context)
                                for client, lent in downloads.items()}, downloads)


def answers(
    models: Models, images: Tensor, choices: Sequence[slice], context: Context | None = None
) -> list[np.ndarray]:
    """Every model's answers for the same images.

    Args:
        images: (n, d) or (n, M, d) features, on the federation's device.
        choices: for each question the classes to choose from.
        context: for more classes than the models were trained on (`Method.widen`); None: for those.

    Returns:
        For each question (clients, n) int64 labels; `NO_ANSWER` where a model answers none of the classes.
    """
    federation, device = models.federation, images.device
    method, own = federation.method, federation.context
    found = [np.full((len(models.tested), len(images)), NO_ANSWER) for _ in choices]
    size = TEST_COHORT if device.type == "cpu" else GPU_TEST_COHORT
    for cohort in chunks(alike(models.tested, models.tested), size):
        model = {name: tensor.float() for name, tensor in
                 stack([models.tested[client] for client in cohort], device).items()}
        lent = [models.downloads[client] for client in cohort]
        cached = [own_images(federation.data, client) for client in cohort] if method.remembers_images else None
        fixed = method.fixed(model, lent, own, cached)
        if context is not None:
            model, fixed = method.widen(model, fixed, lent, context)
        for start in range(0, len(images), TEST_BATCH):
            batch = images[start : start + TEST_BATCH].expand(len(cohort), *[-1] * images.dim())  # (clients, B, ...)
            with torch.no_grad():
                logits = method.logits(model, fixed, batch, context or own)  # (clients, B, C)
            for answered, choice in zip(found, choices, strict=True):
                label = answer(logits[..., choice]).cpu().numpy()  # (clients, B)
                answered[cohort, start : start + TEST_BATCH] = label + choice.start * (label != NO_ANSWER)
    return found


def accuracies(answered: np.ndarray, labels: np.ndarray) -> list[float]:
    """Each client's share of right answers, 0 to 1: (clients, n), (n,) -> clients. No answer is wrong."""
    return (answered == labels).mean(1).tolist()


def in_percent(found: Mapping[str, Any]) -> dict[str, float]:
    """What a record has "beyond" the paper's test, as means over clients: measure -> percent.

    For base_new also the harmonic means `H_OF` of these; a newcomer's curves are "<curve> <point>", as in "epochs 5".
    """
    numbers = {measure: 100 * float(np.mean(values)) for measure, values in found.get("accuracies", {}).items()}
    numbers |= {name: harmonic_mean([numbers[part] for part in parts]) for name, parts in H_OF.items()
                if set(parts) <= set(numbers)}
    return numbers | {f"{curve} {at}": 100 * float(np.mean(values))
                      for curve, points in found.get("curves", {}).items() for at, values in points.items()}


def harmonic_mean(values: Sequence[float]) -> float:
    """0 if one of them is."""
    return 0.0 if min(values) <= 0 else len(values) / sum(1 / value for value in values)
