"""FedPGP: a shared prompt with a personal low-rank addition, pushed apart by a contrastive term (Cui et al. 2024)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pfedmoap.errors import require
from pfedmoap.method import Common, Context, Method, mean_cross_entropy
from pfedmoap.randomness import generator
from pfedmoap.server import Tensors


@dataclass(frozen=True)
class FedPGP(Method):
    """p_i = g + U_i V_i. Shared: g, averaged. Personal: U (m, rank) and V (rank, e), never sent; N(0, 0.02^2).

    Loss: cross-entropy of p_i + mu times the mean over classes of
    -log(e^{cos(t_g, t_0)/k} / (e^{cos(t_g, t_0)/k} + e^{cos(t_g, t_i)/k})), with the text features t_g of g, t_i of p_i
    and t_0 of the hand-written prompt. Tested with [new g; own U, V].

    Attributes:
        rank: of the personal addition (8).
        mu: weight of the contrastive term (0.5).
        temperature: k (0.5).
    """

    name: ClassVar[str] = "fedpgp"
    title: ClassVar[str] = "FedPGP"
    rank: int = 8
    mu: float = 0.5
    temperature: float = 0.5

    def __post_init__(self):
        require(self, {
            "rank": (self.rank >= 0, "a whole number >= 0"),
            "mu": (self.mu >= 0, "a number >= 0"),
            "temperature": (self.temperature > 0, "a number > 0"),
        }, "fedpgp's ")

    def start(self, download: Tensors, personal: Tensors, client: int, context: Context) -> Tensors:
        return dict(download) | (personal or self._addition(client, context))

    def upload(self, trained: Tensors) -> Tensors:
        return {"prompt": trained["prompt"]}

    def keep(self, trained: Tensors) -> Tensors:
        return {"left": trained["left"], "right": trained["right"]}

    def logits(self, model: Tensors, fixed: Tensors, images: Tensor, context: Common) -> Tensor:
        return super().logits({"prompt": self._personal_prompt(model)}, fixed, images, context)

    def loss(
        self, model: Tensors, fixed: Tensors, images: Tensor, labels: Tensor, present: Tensor, context: Common
    ) -> Tensor:
        personal = context.text(self._personal_prompt(model))  # (clients, C, d)
        logits = context.logit_scale * images @ personal.transpose(1, 2)  # (clients, B, C)
        loss = mean_cross_entropy(logits, labels, present)
        if self.mu == 0:
            return loss
        shared = context.text(model["prompt"])  # (clients, C, d), normalised, so that products are cosines
        towards, away = (shared * context.handwritten).sum(-1), (shared * personal).sum(-1)  # (clients, C)
        return loss + self.mu * F.softplus((away - towards) / self.temperature).mean(1)

    def _personal_prompt(self, model: Tensors) -> Tensor:
        return model["prompt"] + model["left"] @ model["right"]  # (clients, m, e)

    def _addition(self, client: int, context: Context) -> Tensors:
        rng, (tokens, width) = generator(context.seed, "fedpgp", client), context.initial_prompt.shape
        shapes = {"left": (tokens, self.rank), "right": (self.rank, width)}
        return {name: 0.02 * torch.from_numpy(rng.standard_normal(shape)).float() for name, shape in shapes.items()}
