"""Unseen domains: every client's model on the test images of a domain that nobody trained on, among all classes."""

from typing import Any

import numpy as np
from torch import Tensor

from pfedmoap.beyond.answers import Models, accuracies, answers
from pfedmoap.federation import Federation


def examine(federation: Federation, images: Tensor, labels: np.ndarray) -> dict[str, Any]:
    """Tests every client on the left-out domain.

    Args:
        images: (n, d) or (n, M, d) features of its test images; labels: (n,).

    Returns:
        "accuracies": {"unseen": every client's, 0 to 1}.
    """
    (answered,) = answers(Models.of(federation), images, [slice(0, len(federation.context.handwritten))])
    return {"accuracies": {"unseen": accuracies(answered, labels)}}
