"""Prompt+FedAMP: every client is drawn to a mixture of the prompts that are like its own (Huang et al. 2021)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pfedmoap.errors import require
from pfedmoap.method import Common, Context, Method
from pfedmoap.server import Server, Tensors


@dataclass(frozen=True)
class FedAMP(Method):
    """Shared: each client's mixture u_i, made on the server. Personal: the prompt, which training starts from.

    With squared distances D_ij in the pool, xi_ij = alpha exp(-D_ij / sigma) for j != i, xi_ii = 1 - sum_j xi_ij,
    u_i = sum_j xi_ij p_j, alpha = 1 / max(1, N-1), sigma the median of the D_ij: the paper leaves both open, these are
    assumptions. The client adds (lam / (2 alpha)) ||p - u_i||^2. Without a pool entry, with fewer than two entries, or
    with sigma = 0, it trains on cross-entropy alone. Tested with its own prompt.

    Attributes:
        attraction: lam, weight of the pull towards the mixture (1).
    """

    name: ClassVar[str] = "fedamp"
    title: ClassVar[str] = "Prompt+FedAMP"
    attraction: float = 1.0

    def __post_init__(self):
        require(self, {"attraction": (self.attraction >= 0, "a number >= 0")}, "fedamp's ")

    def initial_shared(self, context: Context) -> Tensors:
        return {}

    def download(self, server: Server, client: int) -> Tensors:
        """The client's mixture u_i (m, e), and the weight lam / alpha of its pull; nothing while there is none."""
        sigma = server.pool.median_squared_distance()
        if client not in server.pool or sigma == 0:
            return {}
        alpha = 1 / max(1, server.clients - 1)
        clients, distances = server.pool.distances(client)
        attention = alpha * torch.exp(-distances.double().square() / sigma)  # (entries,)
        attention[clients == client] = 0
        attention[clients == client] = 1 - attention.sum()
        prompts = torch.stack(list(server.pool.entries.values()))  # (entries, m, e)
        mixture = torch.tensordot(attention, prompts.double(), dims=1).to(prompts.dtype)
        return {"mixture": mixture, "pull": torch.tensor(self.attraction / alpha)}

    def enter(self, server: Server, uploads: Mapping[int, Tensors]) -> None:
        server.pool.replace({client: upload["prompt"] for client, upload in uploads.items()})

    def start(self, download: Tensors, personal: Tensors, client: int, context: Context) -> Tensors:
        return {"prompt": personal.get("prompt", context.initial_prompt)}

    def keep(self, trained: Tensors) -> Tensors:
        return trained

    def fixed(self, model: Tensors, downloads: Sequence[Tensors], context: Context, cached=None) -> Tensors:
        none = {"mixture": torch.zeros_like(context.initial_prompt), "pull": torch.tensor(0.0)}
        mixtures = [download or none for download in downloads]
        return {name: torch.stack([mixture[name] for mixture in mixtures]).to(model["prompt"].device) for name in none}

    def loss(
        self, model: Tensors, fixed: Tensors, images: Tensor, labels: Tensor, present: Tensor, context: Common
    ) -> Tensor:
        distance = (model["prompt"] - fixed["mixture"]).square().sum((1, 2))  # (clients,)
        return super().loss(model, fixed, images, labels, present, context) + fixed["pull"] / 2 * distance
