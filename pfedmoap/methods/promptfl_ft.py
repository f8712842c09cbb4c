"""PromptFL+FT: PromptFL, then every client fine-tunes the final global prompt alone (Cheng et al. 2021)."""

from dataclasses import dataclass
from typing import ClassVar

from pfedmoap.errors import require
from pfedmoap.method import Context, Method
from pfedmoap.server import Tensors


@dataclass(frozen=True)
class PromptFLFT(Method):
    """Shared: the prompt. Personal: the prompt after fine-tuning, which is tested; until then the global one is.

    Attributes:
        final_epochs: local epochs of the fine-tuning (5, as in a round).
    """

    name: ClassVar[str] = "promptfl_ft"
    title: ClassVar[str] = "PromptFL+FT"
    final_epochs: int = 5

    def __post_init__(self):
        require(self, {"final_epochs": (self.final_epochs >= 1, "a whole number >= 1")}, "promptfl_ft's ")

    @property
    def fine_tuning_epochs(self) -> int:
        return self.final_epochs

    def tested(self, download: Tensors, personal: Tensors, client: int, context: Context) -> Tensors:
        return {"prompt": personal.get("prompt", download["prompt"])}
