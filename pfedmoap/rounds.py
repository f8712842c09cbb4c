"""How a federation runs, and what happened in a round."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pfedmoap.client import Recipe
from pfedmoap.privacy import Privacy
from pfedmoap.server import Tensors


@dataclass(frozen=True)
class Plan:
    """How a federation runs.

    Attributes:
        rounds: T; participation: r, the share of clients that train in a round.
        recipe: the clients' local training.
        privacy: what uploads are protected by; None: nothing. (The recipe's `clip` must be the same.)
        cohort_bytes: memory for the training step of one cohort.
        fixed_experts, shared_optimizer, sequential: the protocol's expert_selection, optimizer and round_order are as
            in the released code. The last two train one client at a time, in an order drawn from (seed, round).
        dtype: of everything that is trained and sent: float32, or float16 as in the released code.
    """

    rounds: int
    participation: float
    recipe: Recipe
    privacy: Privacy | None = None
    cohort_bytes: int = 2 * 2**30
    fixed_experts: bool = False
    shared_optimizer: bool = False
    sequential: bool = False
    dtype: torch.dtype = torch.float32

    @property
    def one_by_one(self) -> bool:
        return self.shared_optimizer or self.sequential


@dataclass
class Round:
    """What happened in one round; per-client lists are in client order.

    Attributes:
        number: from 1.
        selected: clients that trained.
        losses: client -> mean training loss over its steps.
        accuracies: every client's accuracy on its private test set, 0 to 1, after the round; None, in a real federation
            (`pfedmoap.flower`), if it was not reached.
        diagnostics: the method's own numbers, such as pFedMoAP's attention_entropy.
        bytes_up, bytes_down: client -> bytes that it sent and received.
        sigmas: client -> standard deviation of the noise on its upload, with differential privacy.
        seconds: wall time of training and of evaluation.
    """

    number: int
    selected: list[int]
    losses: dict[int, float] = field(default_factory=dict)
    accuracies: list[float | None] = field(default_factory=list)
    diagnostics: dict[str, float] = field(default_factory=dict)
    bytes_up: dict[int, int] = field(default_factory=dict)
    bytes_down: dict[int, int] = field(default_factory=dict)
    sigmas: dict[int, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Unweighted mean over clients (section 4.2), in a real federation over those that were reached."""
        return float(np.mean([accuracy for accuracy in self.accuracies if accuracy is not None]))

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "Round":
        """A round as it was before JSON turned its client ids into strings."""
        by_client = ("losses", "bytes_up", "bytes_down", "sigmas")
        numbered = {name: {int(client): value for client, value in entry[name].items()} for name in by_client}
        return cls(**entry | numbered)


@dataclass(frozen=True)
class Update:
    """A client's local update as its server sees it.

    Attributes:
        client: its id.
        upload: what it sends.
        loss: its mean training loss over its steps.
        sigma: standard deviation of the noise on the upload; None without differential privacy.
    """

    client: int
    upload: Tensors
    loss: float
    sigma: float | None = None
