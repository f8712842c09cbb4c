"""What an audit is asked to look at: our methods by name, or the classes of a Python file."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from pfedmoap.audit.adapter import Adapter
from pfedmoap.audit.ours import MethodAdapter, small
from pfedmoap.errors import UserError, recognise
from pfedmoap.methods import METHODS, Method
from pfedmoap.released import PAPER, Protocol

ALL = "all"
FUNCTIONS = ("start", "local_step", "upload", "aggregate", "predict")


class Target(NamedTuple):
    """An implementation under its name."""

    name: str
    adapter: Adapter


def find_targets(text: str, protocol: Protocol = PAPER) -> list[Target]:
    """The implementations that a text means.

    Args:
        text: a method's name, "all" for all of ours, or the path of a Python file: every class in it that is a `Method`
            or has an `Adapter`'s five functions.
        protocol: of our round loop and data; foreign code has its own.

    Raises:
        UserError: there is no such method or file, or there is nothing to audit in it.
    """
    if not text.endswith(".py"):
        name = recognise(text, [*METHODS, ALL], "method", {method.title: each for each, method in METHODS.items()})
        return [_ours(METHODS[each], protocol) for each in (METHODS if name == ALL else [name])]
    module = _executed(Path(text))
    classes = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__]
    found = [_ours(each, protocol) if issubclass(each, Method) else Target(each.__name__, each())
             for each in classes if issubclass(each, Method) or all(hasattr(each, name) for name in FUNCTIONS)]
    if not found:
        raise UserError(f"{text} has neither a Method nor a class with the functions {', '.join(FUNCTIONS)}: "
                        f"docs/audit.md shows how to write one.")
    if unclaimed := [target.name for target in found if not hasattr(target.adapter, "claims")]:
        raise UserError(f"{unclaimed[0]} in {text} claims nothing: give it an attribute `claims`, such as "
                        f'Claims(averaged=("prompt",)).')
    return found


def _ours(method: type[Method], protocol: Protocol) -> Target:
    return Target(method.name, MethodAdapter(small(method), protocol))


def _executed(path: Path) -> ModuleType:
    """The module that a file makes."""
    spec = importlib.util.spec_from_file_location(f"audited_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise UserError(f"There is no Python file {path}: name a file, or one of our methods.")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where dataclasses look for it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{path} cannot be executed, mend it first: {type(error).__name__}: {error}.") from error
    return module
