"""ZS-CLIP: the hand-written prompt "a photo of a {name}.", nothing trained, nothing sent (Radford et al. 2021)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pfedmoap.method import Common, Context, Method
from pfedmoap.server import Tensors


@dataclass(frozen=True)
class ZeroShot(Method):
    """Shared: nothing. Personal: nothing. Tested with the hand-written prompt's text features."""

    name: ClassVar[str] = "zero_shot"
    title: ClassVar[str] = "ZS-CLIP"

    def initial_shared(self, context: Context) -> Tensors:
        return {}

    def logits(self, model: Tensors, fixed: Tensors, images: Tensor, context: Common) -> Tensor:
        return context.logit_scale * images @ context.handwritten.T  # (clients, B, C)
