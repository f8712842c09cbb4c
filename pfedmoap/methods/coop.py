"""CoOp: every client learns its own prompt alone (Zhou et al. 2022b)."""

from dataclasses import dataclass
from typing import ClassVar

from pfedmoap.method import Context, Method
from pfedmoap.server import Tensors


@dataclass(frozen=True)
class CoOp(Method):
    """Shared: nothing. Personal: the prompt and its optimiser, which goes on over the rounds (SPEC 3).

    All clients train in every round; a "round" only says when they are tested.
    """

    name: ClassVar[str] = "coop"
    title: ClassVar[str] = "CoOp"
    everyone: ClassVar[bool] = True
    keeps_optimizer: ClassVar[bool] = True

    def initial_shared(self, context: Context) -> Tensors:
        return {}

    def start(self, download: Tensors, personal: Tensors, client: int, context: Context) -> Tensors:
        return {"prompt": personal.get("prompt", context.initial_prompt)}

    def upload(self, trained: Tensors) -> Tensors:
        return {}

    def keep(self, trained: Tensors) -> Tensors:
        return trained
