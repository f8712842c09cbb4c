"""Planting a fault of the field: a small subclass of our own code, and the check that has to find it."""

from collections.abc import Callable

from pfedmoap.audit import MethodAdapter
from pfedmoap.audit.ours import small
from pfedmoap.federation import Federation
from pfedmoap.method import Method
from pfedmoap.methods import PFedMoAP

PLANTED: dict[str, tuple[str, Callable[[], MethodAdapter]]] = {}  # fault -> the check that finds it, what makes it


def planted(check: str, method: type[Method] = PFedMoAP) -> Callable[[type], type]:
    """Notes a class among the planted faults: a method, or a federation that trains one."""
    def note(fault: type) -> type:
        of, loop = (method, fault) if issubclass(fault, Federation) else (fault, Federation)
        PLANTED[fault.__name__] = check, lambda: MethodAdapter(
            small(of), federation=lambda method, plan, data, context, protocol: loop(method, plan, data, context))
        return fault

    return note
