"""The audits behind `04_what_prompts_tell`: which runs, and running those that are not there yet."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pfedmoap.errors import refuse_unknown
from pfedmoap.experiments import STAND_INS, Column, Experiment, Grid, Place, Row, build_grid, first_reachable, reachable
from pfedmoap.leakage.auditing import RECIPE, Audit, audit
from pfedmoap.methods import Method, PFedMoAP, PromptFL
from pfedmoap.system import compute_missing, cores

STUDY, CONTROL = "study", "control"
SHADOWS = {"smoke": 4, "quick": 32, "long": 32, "paper": 32}
_ALL = None, math.inf, 50.0, 25.0, 8.0, 2.0, 0.5  # Table 5 has 50 and 25
BUDGETS = {"smoke": (None, 2.0), "quick": _ALL, "long": _ALL, "paper": _ALL}
SETS, HARD_SET = ("Flowers102", "DTD"), "Caltech101"  # nature, machines and caltech40 where data are embedded
# Over-fitted on purpose: two images per class, many epochs, a learning rate five times too large, half of the clients
# so that it takes no longer than the others. Attacks that find nothing here would be broken. In its only round pFedMoAP
# has no experts yet, hence no gate at work: it says nothing about attacks where there is one.
OVER_FITTED: dict[str, dict[str, Any]] = {
    "smoke": dict(shots=2, rounds=1, lr=0.01, local_epochs=3, participation=0.2),
    "quick": dict(shots=2, rounds=1, lr=0.01, local_epochs=30, participation=0.5),
    **dict.fromkeys(("long", "paper"), dict(shots=2, rounds=1, lr=0.01, local_epochs=30, participation=0.5)),
}
OVER_FITTED_TITLE = "over-fitted on purpose"


def protection(epsilon: float | None) -> str:
    """Such as "none", "clipping only" or "ε = 50"."""
    if epsilon is None:
        return "none"
    return "clipping only" if epsilon == math.inf else f"ε = {epsilon:g}"


def grids(
    profile: str = "quick", seeds: Sequence[int] | None = None, methods: Sequence[str] | None = None, **overrides: Any
) -> dict[str, Grid]:
    """"study": pFedMoAP and PromptFL under all privacy budgets on two sets; "control": over-fitted on purpose.

    Args:
        seeds: None: the profile's.
        methods: of "pfedmoap" and "promptfl" those to keep; None: both.
        overrides: settings of `Experiment` in place of the profile's.

    Raises:
        UserError: an unknown profile, method or setting.
    """
    both: tuple[Method, ...] = PFedMoAP(), PromptFL()
    refuse_unknown(methods or (), [method.name for method in both], "method of this study")
    refuse_unknown([profile], list(BUDGETS), "profile")
    rows = [Row(f"{method.title} ({protection(budget)})", method, settings={"epsilon": budget})
            for method in both for budget in BUDGETS[profile]]
    column = lambda title: Column(title, STAND_INS[title][profile != "paper"])  # noqa: E731
    kept = [method for method in both if not methods or method.name in methods]
    over_fitted = Row(OVER_FITTED_TITLE, kept[0], control=True, settings=OVER_FITTED[profile])
    return {STUDY: build_grid(STUDY, profile, rows, [column(title) for title in SETS], seeds, methods, overrides),
            CONTROL: build_grid(CONTROL, profile, [over_fitted], [column(HARD_SET), *map(column, SETS)], seeds, None,
                           overrides)}


def here(wanted: Mapping[str, Grid], place: Place = Place()) -> dict[str, Grid]:
    """The grids without the data sets that are not here; of the control the first that is.

    Raises:
        UserError: none is.
    """
    control, _ = first_reachable({CONTROL: wanted[CONTROL]}, place)
    return {STUDY: reachable(wanted[STUDY], place).filled} | control


def audit_all(
    experiments: Iterable[Experiment],
    place: Place = Place(),
    *,
    folder: str | Path,
    shadows: int = 32,
    jobs: int | None = None,
    progress: bool = True,
) -> dict[Experiment, Audit]:
    """Audits what the folder lacks, one process per core with one torch thread each; what is finished is kept.

    Args:
        folder: of the finished audits, one JSON file each.
        jobs: processes; None: one per core, on a GPU one in all; 1: in this process.
    """
    paths = {item: Path(folder) / f"{item.label}-{shadows}-{RECIPE}.json" for item in dict.fromkeys(experiments)}
    jobs = jobs or (cores.count() if place.device == "cpu" else 1)
    found = compute_missing(audit, {path: (item, place, shadows) for item, path in paths.items()}, jobs=jobs,
                            unit="audit", progress=progress)
    return {item: found[path] for item, path in paths.items()}
