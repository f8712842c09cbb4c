"""One short file per method; `METHODS` lists them by name, in the order of the paper's tables."""

from pfedmoap.methods.base import Context, Method
from pfedmoap.methods.coop import CoOp
from pfedmoap.methods.pfedmoap import PFedMoAP
from pfedmoap.methods.promptfl import PromptFL
from pfedmoap.methods.zero_shot import ZeroShot

METHODS: dict[str, type[Method]] = {method.name: method for method in (ZeroShot, CoOp, PromptFL, PFedMoAP)}

__all__ = ["METHODS", "CoOp", "Context", "Method", "PFedMoAP", "PromptFL", "ZeroShot"]
