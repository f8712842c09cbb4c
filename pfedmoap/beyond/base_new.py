"""Base to new: how well clients do on classes of their own, of others, and on classes that nobody trained on.

After the last round every client is tested with the model that the paper tests it with, on all test images of the set:

- `local`: on its own test images, choosing among the base classes. This is the paper's accuracy.
- `base`, `new`: on the base classes' images choosing among base classes, on the new ones' choosing among new ones.
- `base_among_all`, `new_among_all`: on the same images, choosing among all classes (generalised).

A new class is its name: the client's own prompt, gate and experts are used as they are, with the new names' text
features. Methods that know classes by their images alone never answer one that they have seen none of, which counts as
wrong (`Method.widen`).
"""

from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from pfedmoap.beyond.answers import Models, accuracies, answers
from pfedmoap.federation import Federation
from pfedmoap.gating import gate_of
from pfedmoap.method import Context

MEASURES = ("local", "base", "new", "base_among_all", "new_among_all")


def examine(
    federation: Federation, images: Tensor, labels: np.ndarray, own: list[np.ndarray], base: int, context: Context
) -> dict[str, Any]:
    """Tests every client of a federation that was trained on the first `base` classes.

    Args:
        images: (n, d) or (n, M, d) features of all test images; labels: (n,).
        own: each client's own test images, as rows of these.
        base: how many classes were trained on.
        context: for all classes.

    Returns:
        "accuracies": measure -> every client's, 0 to 1; for methods with a gate also "without_gate": the same of the
        client's prompt alone.
    """
    models = Models.of(federation)
    found = {"accuracies": _test(models, images, labels, own, base, context)}
    if any(gate_of(model) for model in models.tested.values()):
        prompts = {client: {name: tensor for name, tensor in model.items() if name not in gate_of(model)}
                   for client, model in models.tested.items()}
        found["without_gate"] = _test(replace(models, tested=prompts), images, labels, own, base, context)
    return found


def _test(
    models: Models, images: Tensor, labels: np.ndarray, own: list[np.ndarray], base: int, context: Context
) -> dict[str, list[float]]:
    classes = len(context.handwritten)
    choices = slice(0, base), slice(base, classes), slice(0, classes)
    among_base, among_new, among_all = answers(models, images, choices, context)
    old = labels < base
    right = among_base == labels  # (clients, n)
    return {
        "local": [float(row[rows].mean()) for row, rows in zip(right, own, strict=True)],
        "base": accuracies(among_base[:, old], labels[old]),
        "new": accuracies(among_new[:, ~old], labels[~old]),
        "base_among_all": accuracies(among_all[:, old], labels[old]),
        "new_among_all": accuracies(among_all[:, ~old], labels[~old]),
    }
