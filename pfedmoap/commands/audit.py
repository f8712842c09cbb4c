"""`pfedmoap audit`: black-box checks of an implementation, ours or anybody's."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from pfedmoap.commands.shared import AsJson, say, what
from pfedmoap.errors import PfedmoapError


def audit(
    target: Annotated[str, typer.Argument(help="A method, all, or a Python file with a Method or an adapter.")],
    protocol: Annotated[str, what("Of our own code: paper, released, or switches, with commas between.")] = "paper",
    checks: Annotated[list[str] | None, what("Only this check; may be given several times.", "--check")] = None,
    as_json: AsJson = False,
) -> None:
    """Check an implementation for the faults that change tables.

    Some twenty black-box checks on a tiny case at random weights, in seconds: gradients,
    neighbours, averages, images and labels, names, what leaves a client, the test split.
    docs/audit.md says what each looks at, and how to write an adapter for foreign code.
    Leaves with code 1 if a check fails.

    Examples:

      pfedmoap audit pfedmoap

      pfedmoap audit fedprox --protocol released

      pfedmoap audit my_code.py --json
    """
    from pfedmoap import audit as auditing
    from pfedmoap.commands import console
    from pfedmoap.released import parse_protocol

    found = {}
    for name, adapter in auditing.find_targets(target, parse_protocol(protocol)):
        say(f"auditing {name} ...")
        found[name] = auditing.audit(adapter, checks or ())
    if as_json:
        plain = [{"target": name} | asdict(one) for name, findings in found.items() for one in findings]
        typer.echo(json.dumps(json.loads(json.dumps(plain), parse_constant=str), indent=1))  # JSON has no infinity
    else:
        console.show_findings(found)
    failed = [f"{name}: {one.check}" for name, findings in found.items() for one in findings if one.fails]
    if failed:
        raise PfedmoapError(f"{len(failed)} checks failed: {', '.join(failed)}.")
