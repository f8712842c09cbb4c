"""The ledger of claims: one entry of `results/claims.toml` each."""

import inspect
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pfedmoap.errors import UserError, refuse_unknown
from pfedmoap.reports.claims import judges
from pfedmoap.system import PROFILES, SHIPPED

LEDGER = SHIPPED / "results" / "claims.toml"
BY = ("paper", "kit")


@dataclass(frozen=True)
class Claim:
    """One thing that somebody says, and how it is judged.

    Attributes:
        id: its name on the command line.
        by: "paper", of its data and CLIP; "kit", of what is committed here.
        source: section, table or file where it is said.
        says: the claim in own words.
        kind: how it is judged, a function of `judges`.
        profiles: those whose results can judge it; empty: any, as it needs none.
        given: that function's arguments: grid, rows, bounds, ...
    """

    id: str
    by: str
    source: str
    says: str
    kind: str
    profiles: tuple[str, ...]
    given: Mapping[str, Any]


def read_ledger(path: Path = LEDGER, only: Sequence[str] = ()) -> list[Claim]:
    """The claims of a ledger, in its order.

    Args:
        only: ids of those to keep; none: all.

    Raises:
        UserError: there is no such file, an entry cannot be understood, or an id is not in it.
    """
    if not path.is_file():
        raise UserError(f"The ledger of claims {path} is not there: run from a clone of the project.")
    claims = [_claim(entry, path) for entry in tomllib.loads(path.read_text()).get("claim", [])]
    if twice := {claim.id for claim in claims if [other.id for other in claims].count(claim.id) > 1}:
        raise UserError(f"{path} has several claims named {', '.join(sorted(twice))}: give each a name of its own.")
    refuse_unknown(only, [claim.id for claim in claims], "claim")
    return [claim for claim in claims if not only or claim.id in only]


def _claim(entry: Mapping[str, Any], path: Path) -> Claim:
    given, name = dict(entry), entry.get("id", "without an id")
    try:
        fixed = {field: given.pop(field) for field in ("id", "by", "source", "says", "kind")}
    except KeyError as error:
        raise UserError(f"{path}, claim {name}: there is no {error.args[0]!r}.") from error
    profiles = tuple(given.pop("profiles", ()))
    refuse_unknown([fixed["by"]], list(BY), f"'by' in claim {name}")
    refuse_unknown([fixed["kind"]], list(judges.JUDGES), f"kind in claim {name}")
    refuse_unknown(profiles, list(PROFILES), f"profile in claim {name}")
    try:
        inspect.signature(judges.JUDGES[fixed["kind"]]).bind(None, **given)
    except TypeError as error:
        raise UserError(f"{path}, claim {name}: {error} of kind {fixed['kind']}.") from error
    return Claim(**fixed, profiles=profiles, given=given)
