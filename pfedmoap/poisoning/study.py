"""The runs under attack behind `04_what_prompts_tell`: which methods, deals, attacks and filters, and running them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pfedmoap.experiments import STAND_INS, Column, Grid, Place, Row, build_grid
from pfedmoap.methods import FedPer, PFedMoAP, PromptFL
from pfedmoap.poisoning.attacks import BACKDOOR, FLIPPING, NONE, Attack
from pfedmoap.poisoning.runs import Scenario, poisoned
from pfedmoap.protection import FILTERS
from pfedmoap.system import compute_missing, cores

RECIPE = 1  # raise it when an attack or a filter changes: stored results are known by it
SET = "Flowers102"  # nature where data are embedded
OWN, SHARED = "own classes", "shared classes"
DEALS = {OWN: {}, SHARED: {"partition": "dirichlet", "alpha": 0.5}}
MOST = 3  # attackers
WEAK = "as trained"

# Per deal the attacks (kind, attackers, whether updates are multiplied), and the filters.
_EVERY = ((NONE, 0, False), (FLIPPING, MOST, True), (BACKDOOR, 1, True), (BACKDOOR, MOST, True),
          (BACKDOOR, MOST, False))
_WORST = _EVERY[0], _EVERY[1], _EVERY[3]
FULL = {OWN: (_EVERY, tuple(FILTERS)), SHARED: (_WORST, ("none", "median"))}
PLANS = {"smoke": {OWN: ((_EVERY[0], _EVERY[3]), ("none", "median"))}, "quick": FULL, "long": FULL, "paper": FULL}


def grid(
    profile: str = "quick", seeds: Sequence[int] | None = None, methods: Sequence[str] | None = None, **overrides: Any
) -> Grid:
    """The federations that are attacked, a row per method and a column per deal of one data set's classes.

    Nothing is augmented, so that the trigger is where it was put.

    Args:
        seeds: None: the profile's.
        methods: of "promptfl", "pfedmoap" and "fedper" those to keep; None: all, in profile "smoke" the first two.

    Raises:
        UserError: an unknown profile, method or setting.
    """
    rows = [Row(method.title, method) for method in (PromptFL(), PFedMoAP(), FedPer())]
    if profile == "smoke" and methods is None:
        rows = rows[:2]
    dataset = STAND_INS[SET][profile != "paper"]
    columns = [Column(deal, dataset, settings=DEALS[deal]) for deal in PLANS.get(profile, FULL)]
    return build_grid("poisoning", profile, rows, columns, seeds, methods, {"views": 0} | overrides)


def scenarios(federations: Grid) -> list[Scenario]:
    """Every run of the grid under every attack of its deal, with every filter."""
    found = []
    for (_, deal), runs in federations.cells.items():
        attacks, filters = PLANS[federations.profile][deal]
        found += [Scenario(run, Attack(kind, count, max(1.0, run.clients / count) if boosted else 1.0), chosen, MOST)
                  for kind, count, boosted in attacks for chosen in filters for run in runs]
    return found


def run_scenarios(
    wanted: Iterable[Scenario], place: Place = Place(), *, folder: str | Path, jobs: int | None = None,
    progress: bool = True,
) -> dict[Scenario, dict[str, Any]]:  # fmt: skip
    """Runs what the folder lacks, one process per core with one torch thread each; what is finished is kept.

    Args:
        folder: of the results, one JSON file each.
        jobs: processes; None: one per core, on a GPU one in all; 1: in this process.
    """
    paths = {item: Path(folder) / f"{item.label}-{RECIPE}.json" for item in dict.fromkeys(wanted)}
    found = compute_missing(poisoned, {path: (item, place) for item, path in paths.items()},
                            jobs=jobs or (cores.count() if place.device == "cpu" else 1), unit="attacked run",
                            progress=progress)
    return {item: found[path] for item, path in paths.items()}


def title(attack: Attack) -> str:
    """Such as "none", "backdoor, 1 attacker" or "backdoor, 3 attackers, as trained"."""
    if attack.kind == NONE:
        return NONE
    few = f"{attack.kind}, {attack.attackers} attacker{'s' * (attack.attackers > 1)}"
    return few if attack.boost > 1 else f"{few}, {WEAK}"
