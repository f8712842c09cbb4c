"""What a federation works on: image features, and which of them each client owns."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class FederatedData:
    """Image features of a whole data set, and which rows each client owns.

    Attributes:
        train_features: (V, n, d) with V augmented views; (V, n, M, d) for methods that need the spatial map.
        train_labels: (n,); test_labels: (n',), int64.
        test_features: (n', d) or (n', M, d).
        train_rows, test_rows: one int64 array per client.
        plain_features: (n, d) or (n, M, d), the training images as they are tested, without augmentation.
    """

    train_features: Tensor
    train_labels: Tensor
    test_features: Tensor
    test_labels: Tensor
    train_rows: Sequence[np.ndarray]
    test_rows: Sequence[np.ndarray]
    plain_features: Tensor | None = None

    @property
    def clients(self) -> int:
        return len(self.train_rows)


def in_one_table(parts: Sequence[FederatedData]) -> list[FederatedData]:
    """The same federations on one table of all their training images, so that their clients can train as one batch.

    Test images stay where they are.
    """
    features = torch.cat([part.train_features for part in parts], dim=1)  # (V, sum of n, d)
    labels = torch.cat([part.train_labels for part in parts])  # (sum of n,)
    plain = None if parts[0].plain_features is None else torch.cat([part.plain_features for part in parts])
    joined, first = [], 0
    for part in parts:
        rows = [first + own for own in part.train_rows]
        joined.append(replace(part, train_features=features, train_labels=labels, train_rows=rows,
                              plain_features=plain))
        first += len(part.train_labels)
    return joined
