"""The command `pfedmoap verify`: what the results say of every claim."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pfedmoap.commands.shared import AsJson, place, say, what
from pfedmoap.errors import PfedmoapError, UserError
from pfedmoap.system import paths

if TYPE_CHECKING:
    from pfedmoap.reports.claims import Claim, Evidence


def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Claims, such as table1-mean; all if none.",
                                                      metavar="[CLAIM]...", show_default=False)] = None,
    profile: Annotated[str, what("Whose results: smoke, quick, long or paper.")] = "long",
    run_missing: Annotated[bool, what("Make the tables that are missing, and run the tests that claims name.",
                                      "--run")] = False,
    results: Annotated[Path | None, place(r"Folder of the tables. \[default: results/PROFILE]")] = None,
    against: Annotated[Path | None, place("Folder of the same tables made again: compared cell by cell.")] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Judge every claim of the paper and of this kit by the results.

    The ledger is results/claims.toml. Nothing is run: verdicts come from the records,
    or from the committed numbers of every client and seed, by exact tests over seeds.
    What is said of the paper's own data is "toy" on stand-ins. The verdicts on all
    claims are also written to claims.json beside the tables, for `pfedmoap report`.
    Leaves with code 1 if a claim of this kit is not borne out.

    Examples:

      pfedmoap verify

      pfedmoap verify table1-mean experts-help

      pfedmoap verify --profile quick --against DIR
    """
    from pfedmoap.commands import console
    from pfedmoap.errors import refuse_unknown
    from pfedmoap.reports import claims

    refuse_unknown([profile], list(paths.PROFILES), "profile")
    folder = results or paths.results_dir(profile)
    if not folder.is_dir() and not run_missing:
        raise UserError(f"There are no results in {folder}: make them with `pfedmoap reproduce --profile {profile}`, "
                        f"or name their folder with --results DIR.")
    chosen = claims.read_ledger(only=names or ())
    evidence = claims.Evidence(profile, folder, against, tests=run_missing)
    if run_missing:
        _run_missing(chosen, evidence)
    verdicts = claims.judge(chosen, evidence)
    cells = claims.against(folder, against) if against else None
    if not names:
        claims.write_verdicts(verdicts, folder)
    if as_json:
        plain = {"claims": json.loads(claims.as_frame(verdicts).to_json(orient="records"))}
        if cells is not None:
            plain["cells"] = json.loads(cells.to_json(orient="records"))
        typer.echo(json.dumps(plain, indent=1, ensure_ascii=False))
    else:
        console.show_verdicts(verdicts, details=bool(names))
        if cells is not None:
            console.show_cells(cells)
    if failing := [verdict for verdict in verdicts if verdict.fails]:
        lines = "".join(f"\n  {verdict.id}: {verdict.words}" for verdict in failing)
        raise PfedmoapError(f"These claims of this kit are not borne out:{lines}")
    if cells is not None and (cells["state"] == claims.DIFFERENT).any():
        raise PfedmoapError(f"{(cells['state'] == claims.DIFFERENT).sum()} of {len(cells)} cells are different.")


def _run_missing(chosen: Sequence["Claim"], evidence: "Evidence") -> None:
    """Makes the tables that claims rest on and that are missing or out of date."""
    from pfedmoap import batch
    from pfedmoap.commands import progress
    from pfedmoap.reports.claims import NotRun

    needed = dict.fromkeys(name for claim in chosen if not claim.profiles or evidence.profile in claim.profiles
                           for name in (*claim.given.get("grids", ()), *filter(None, [claim.given.get("grid")])))
    missing = []
    for name in needed:
        try:
            evidence.grid(name)
        except NotRun as reason:
            say(str(reason))
            missing.append(name)
    if missing:
        own = evidence.results != paths.results_dir(evidence.profile)
        places = {"results": str(evidence.results), "figures": str(evidence.results / "figures")} if own else {}
        planned = batch.plan(missing, evidence.profile, places, paths.NOTEBOOKS)
        watch = progress.Watch(planned)
        progress.show_outcomes(watch.all(batch.execute(
            planned, processes=0, minutes=batch.time_limit(evidence.profile), force=False, on_start=watch.start)))
