"""Prompt+FedProx: PromptFL whose clients are held near the global prompt (Li et al. 2020b)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pfedmoap.errors import require
from pfedmoap.method import Common, Context, Method
from pfedmoap.server import Tensors


@dataclass(frozen=True)
class FedProx(Method):
    """Loss + (mu / 2) ||p - p_g||^2, with its gradient. Shared: the prompt. Tested with the global prompt.

    Attributes:
        mu: weight of the proximal term (0.5).
    """

    name: ClassVar[str] = "fedprox"
    title: ClassVar[str] = "Prompt+FedProx"
    mu: float = 0.5

    def __post_init__(self):
        require(self, {"mu": (self.mu >= 0, "a number >= 0")}, "fedprox's ")

    def fixed(self, model: Tensors, downloads: Sequence[Tensors], context: Context, cached=None) -> Tensors:
        return {"anchor": model["prompt"]}  # the global prompt that training starts from

    def loss(
        self, model: Tensors, fixed: Tensors, images: Tensor, labels: Tensor, present: Tensor, context: Common
    ) -> Tensor:
        return super().loss(model, fixed, images, labels, present, context) + self.proximal_term(model, fixed)

    def proximal_term(self, model: Tensors, fixed: Tensors) -> Tensor:
        """(mu / 2) ||p - p_g||^2 of each client: (clients,)."""
        return self.mu / 2 * (model["prompt"] - fixed["anchor"]).square().sum((1, 2))
