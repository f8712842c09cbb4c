"""From a claim and the evidence to a verdict, and verdicts in files."""

import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from pfedmoap.errors import UserError
from pfedmoap.reports.claims.evidence import Evidence, NotRun
from pfedmoap.reports.claims.judges import JUDGES, Finding
from pfedmoap.reports.claims.ledger import Claim
from pfedmoap.system import read_json, write_atomically

VERIFIED, FALSIFIED, INCONCLUSIVE, TOY, NOT_RUN = "verified", "falsified", "inconclusive", "toy", "not run"
HERE = {True: "holds", False: "fails", None: "open"}


@dataclass(frozen=True)
class Verdict:
    """What the evidence says of a claim.

    Attributes:
        verdict: "verified", "falsified" or "inconclusive"; "toy": the paper's claim, judged on stand-ins for its data
            and its CLIP; "not run".
        here: "holds", "fails" or "open" on the data that were run; empty: not run.
        words: what was found, or why it was not.
        number, low, high, unit, p: see `judges.Finding`; None: there is none.
        minutes: that the runs took that it rests on, added up over processes; None: it rests on no runs.
        machine: on which.
    """

    id: str
    by: str
    source: str
    says: str
    verdict: str
    here: str
    words: str
    number: float | None
    low: float | None
    high: float | None
    unit: str
    p: float | None
    minutes: float | None
    machine: str

    @property
    def shown(self) -> str:
        """The verdict; of a toy one also what holds here."""
        return f"{self.verdict}: {self.here}" if self.verdict == TOY else self.verdict

    @property
    def measured(self) -> str:
        """Such as "+3.6", in points, or "26.7 times"; empty: nothing."""
        if self.number is None:
            return ""
        return f"{self.number:+.1f}" if self.unit == "points" else f"{self.number:.3g} {self.unit}".strip()

    @property
    def fails(self) -> bool:
        """Whether it is this kit's own claim, judged, and not borne out."""
        return self.by == "kit" and self.verdict in (FALSIFIED, INCONCLUSIVE)


def judge(claims: Sequence[Claim], evidence: Evidence, progress: bool = True) -> list[Verdict]:
    """The verdicts on claims, in their order.

    Raises:
        UserError: a claim names a row, a column or a table that there is not.
    """
    return [_verdict(claim, evidence) for claim in
            tqdm(claims, desc="claims", unit="claim", delay=1, disable=not progress)]


def _verdict(claim: Claim, evidence: Evidence) -> Verdict:
    try:
        if claim.profiles and evidence.profile not in claim.profiles:
            raise NotRun(f"judged in the profile {' or '.join(claim.profiles)}")
        found = JUDGES[claim.kind](evidence, **claim.given)
        word = {True: VERIFIED, False: FALSIFIED, None: INCONCLUSIVE}[found.holds]
        if claim.by == "paper" and claim.profiles and evidence.profile != "paper":
            word = TOY
    except NotRun as reason:
        found, word = Finding(None, str(reason), unit=""), NOT_RUN
    here = "" if word == NOT_RUN else HERE[found.holds]
    minutes, machine = _cost(claim, evidence) if word != NOT_RUN else (None, "")
    number, low, high, p = (None if math.isnan(value) else float(f"{value:.4g}")
                            for value in (found.number, found.low, found.high, found.p))
    return Verdict(claim.id, claim.by, claim.source, claim.says, word, here, found.words, number, low, high,
                   found.unit, p, minutes, machine)


def _cost(claim: Claim, evidence: Evidence) -> tuple[float | None, str]:
    """Minutes and machines of the runs that a claim rests on."""
    names = [claim.given["grid"]] if "grid" in claim.given else list(claim.given.get("grids", ()))
    if not names:
        return None, ""
    costs = [evidence.runs(name) for name in names]
    machines = dict.fromkeys(machine for _, _, each in costs for machine in each)
    return round(sum(seconds for _, seconds, _ in costs) / 60, 1), "; ".join(machines)


def as_frame(verdicts: Iterable[Verdict]) -> pd.DataFrame:
    """One line per verdict, with the fields of `Verdict` as columns."""
    return pd.DataFrame([asdict(verdict) for verdict in verdicts])


def write_verdicts(verdicts: Sequence[Verdict], folder: Path) -> Path:
    """Writes claims.json, which the page reads; returns its path. The same verdicts give the same file."""
    path = Path(folder) / "claims.json"
    text = json.dumps([asdict(verdict) for verdict in verdicts], indent=1, ensure_ascii=False)
    write_atomically(path, (text + "\n").encode())
    return path


def read_verdicts(folder: Path) -> list[Verdict]:
    """What `write_verdicts` wrote; [] if there is no such file.

    Raises:
        UserError: the file holds something else.
    """
    path = Path(folder) / "claims.json"
    try:
        found = [Verdict(**entry) for entry in read_json(path)]
        sound = all(_is_of(getattr(one, field.name), field.type) for one in found for field in fields(Verdict))
    except FileNotFoundError:
        return []
    except (OSError, TypeError, ValueError):
        sound = False
    if not sound:
        raise UserError(f"{path} does not hold verdicts: remove it; `pfedmoap verify` writes it again.")
    return found


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value is of a field's type; of numbers a finite one."""
    return isinstance(value, kind) and not isinstance(value, bool) and (
        not isinstance(value, int | float) or abs(value) <= sys.float_info.max)
