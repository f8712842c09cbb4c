"""What a federation works on: image features, and which of them each client owns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
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
