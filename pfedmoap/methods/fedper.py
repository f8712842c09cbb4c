"""Prompt+FedPer: the first context tokens are shared, the rest personal (Arivazhagan et al. 2019)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pfedmoap.errors import UserError, require
from pfedmoap.method import Common, Context, Method
from pfedmoap.server import Tensors


@dataclass(frozen=True)
class FedPer(Method):
    """p = [b; u]. Shared: b, averaged. Personal: u, kept between rounds and never sent. Tested with [new b; own u].

    Attributes:
        shared_tokens: how many context tokens are shared; None: half of them (m // 2, an assumption).
    """

    name: ClassVar[str] = "fedper"
    title: ClassVar[str] = "Prompt+FedPer"
    shared_tokens: int | None = None

    def __post_init__(self):
        require(self, {
            "shared_tokens": (self.shared_tokens is None or self.shared_tokens >= 0, "a whole number >= 0, or None"),
        }, "fedper's ")

    def check(self, features: int, tokens: int) -> None:
        if self.shared_tokens is not None and self.shared_tokens > tokens:
            raise UserError(f"fedper cannot share {self.shared_tokens} of {tokens} context tokens.")

    def initial_shared(self, context: Context) -> Tensors:
        return {"shared": context.initial_prompt[: self._split(context)]}

    def start(self, download: Tensors, personal: Tensors, client: int, context: Context) -> Tensors:
        own = personal.get("own", context.initial_prompt[self._split(context) :])
        return {"shared": download["shared"], "own": own}

    def upload(self, trained: Tensors) -> Tensors:
        return {"shared": trained["shared"]}

    def keep(self, trained: Tensors) -> Tensors:
        return {"own": trained["own"]}

    def logits(self, model: Tensors, fixed: Tensors, images: Tensor, context: Common) -> Tensor:
        prompt = torch.cat([model["shared"], model["own"]], dim=1)  # (clients, m, e)
        return super().logits({"prompt": prompt}, fixed, images, context)

    def _split(self, context: Context) -> int:
        return len(context.initial_prompt) // 2 if self.shared_tokens is None else self.shared_tokens
