"""PromptFL: federated averaging of one shared prompt (Guo et al. 2023b)."""

from dataclasses import dataclass
from typing import ClassVar

from pfedmoap.method import Method


@dataclass(frozen=True)
class PromptFL(Method):
    """Shared: the prompt. Personal: nothing. Tested with the global prompt: the defaults of `Method`."""

    name: ClassVar[str] = "promptfl"
    title: ClassVar[str] = "PromptFL"
