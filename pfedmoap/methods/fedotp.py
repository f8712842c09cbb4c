"""FedOTP: a global and a local prompt, matched to the image's positions by optimal transport (Li et al. 2024)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pfedmoap.errors import require
from pfedmoap.method import Common, Context, Method
from pfedmoap.methods.transport import partial_transport
from pfedmoap.server import Tensors


@dataclass(frozen=True)
class FedOTP(Method):
    """Two prompts per client. Shared: P[0], averaged. Personal: P[1], never sent. Tested with [global; own local].

    Per image and class, Sim (M, 2) are the cosines of the M image positions with both prompts' text features;
    z_c = s sum(T * Sim), where T transports a mass gamma at cost 1 - Sim and has no gradient.

    Attributes:
        mass: gamma, the share of the image that is matched (0.8).
        regularisation: eps of the entropic transport (0.1).
        iterations: at most so many (100).
        threshold: relative change at which a problem stops (1e-3).
    """

    name: ClassVar[str] = "fedotp"
    title: ClassVar[str] = "FedOTP"
    spatial: ClassVar[bool] = True
    waits: ClassVar[bool] = True  # until the last transport problem has converged
    mass: float = 0.8
    regularisation: float = 0.1
    iterations: int = 100
    threshold: float = 1e-3

    def __post_init__(self):
        require(self, {
            "mass": (0 < self.mass <= 1, "a number > 0 and <= 1"),
            "regularisation": (self.regularisation > 0, "a number > 0"),
            "iterations": (self.iterations >= 1, "a whole number >= 1"),
            "threshold": (self.threshold >= 0, "a number >= 0"),
        }, "fedotp's ")

    def start(self, download: Tensors, personal: Tensors, client: int, context: Context) -> Tensors:
        return {"prompt": download["prompt"], "own": personal.get("own", context.initial_prompt)}

    def upload(self, trained: Tensors) -> Tensors:
        return {"prompt": trained["prompt"]}

    def keep(self, trained: Tensors) -> Tensors:
        return {"own": trained["own"]}

    def logits(self, model: Tensors, fixed: Tensors, images: Tensor, context: Common) -> Tensor:
        """images (clients, B, M, d) -> (clients, B, C)."""
        text = context.text(torch.stack([model["prompt"], model["own"]], dim=1))  # (clients, 2, C, d)
        similarity = torch.einsum("nbmd,npcd->nbcmp", images, text)  # (clients, B, C, M, 2)
        plan = partial_transport(1 - similarity, self.mass, regularisation=self.regularisation,
                                 iterations=self.iterations, threshold=self.threshold)
        return context.logit_scale * (plan * similarity).sum((-2, -1))
