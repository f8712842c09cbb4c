"""All checks by name, and their run on an adapter."""

from collections.abc import Callable, Iterable

from pfedmoap.audit import exchange, images, repeating, training
from pfedmoap.audit.adapter import Adapter
from pfedmoap.audit.case import Case, golden_case
from pfedmoap.audit.findings import DOCUMENTED, FAILS, NOT_APPLICABLE, PASSES, Finding, Seen
from pfedmoap.errors import refuse_unknown

CHECKS: dict[str, Callable[[Adapter, Case], Seen]] = {
    check.__name__: check
    for check in (
        training.moves, training.gradients, training.frozen, training.learning_rate, training.momentum,
        training.weight_decay, exchange.neighbours, exchange.average, exchange.personal, images.pairing,
        images.own_labels, images.names, images.own_images, images.test_images, repeating.same_seed, repeating.order,
        repeating.padding, repeating.last_batch, repeating.company, repeating.one_client, repeating.one_class,
        repeating.no_experts)
}  # fmt: skip


def audit(adapter: Adapter, only: Iterable[str] = ()) -> list[Finding]:
    """Runs the checks on an implementation, in seconds.

    Args:
        only: names of checks; all if none.

    Raises:
        UserError: there is no such check.
    """
    chosen = list(only) or list(CHECKS)
    refuse_unknown(chosen, list(CHECKS), "check")
    case = golden_case()
    return [_finding(name, adapter, case) for name in chosen]


def table() -> str:
    """The checks as a table in Markdown: a name, and what has to hold."""
    rows = [f"| `{name}` | {(check.__doc__ or '').strip()} |" for name, check in CHECKS.items()]
    return "\n".join(["| check | what has to hold |", "|---|---|", *rows])


def _finding(name: str, adapter: Adapter, case: Case) -> Finding:
    try:
        seen = CHECKS[name](adapter, case)
    except Exception as error:  # of foreign code, whatever it is
        seen = Seen(False, f"stopped with {type(error).__name__}: {error}")
    if seen.holds is None:
        verdict = NOT_APPLICABLE
    elif seen.holds:
        verdict = PASSES
    elif reason := adapter.claims.documented.get(name):
        return Finding(name, DOCUMENTED, f"{reason}: {seen.words}", seen.numbers)
    else:
        verdict = FAILS
    return Finding(name, verdict, seen.words, seen.numbers)
