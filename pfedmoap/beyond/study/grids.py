"""Which runs are behind `06_beyond_the_paper`: all methods, with their controls, on three questions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pfedmoap.beyond.questions import SHARE
from pfedmoap.errors import UserError, refuse_unknown
from pfedmoap.experiments import STAND_INS, Column, Grid, Place, build_grid, reachable, table1
from pfedmoap.methods import METHODS

BASE_NEW, NEW_CLIENTS, UNSEEN = "base_new", "new_clients", "unseen_domain"
# Half of an embedded set's 20 classes are dealt, so that fewer clients still own two or more each.
FEWER = dict(clients=5)
IN_SMOKE = "zero_shot", "promptfl", "coop", "pfedmoap", "class_means", "fedavg_probe"
DOMAINS = {  # a set of domains: what they are called there, and clients per domain
    "office": ("product", "webcam", "grayscale", "wallpaper"),
    "office_caltech10": ("amazon", "caltech", "dslr", "webcam"),
}
PER_DOMAIN = 5  # clients
# `quick` takes a part of its usual budget, so that all three questions are answered in minutes.
SHORT: dict[str, dict[str, Any]] = {
    NEW_CLIENTS: dict(local_epochs=3),
    UNSEEN: dict(participation=1.0, rounds=3, local_epochs=3, shots=24),
}


def grids(
    profile: str = "quick", seeds: Sequence[int] | None = None, methods: Sequence[str] | None = None, **overrides: Any
) -> dict[str, Grid]:
    """Question -> its grid: Table 1's rows, a column per data set or left-out domain.

    Args:
        seeds: None: the profile's.
        methods: names of those to keep; None: all, in `smoke` the few of `IN_SMOKE`.
        overrides: settings of `Experiment` in place of the profile's.

    Raises:
        UserError: an unknown profile, method or setting.
    """
    if "evaluate" in overrides:
        raise UserError("This study chooses what is evaluated: leave out evaluate, or use `pfedmoap run --evaluate`.")
    refuse_unknown(methods or (), list(METHODS), "method")
    rows = table1(profile).rows
    if methods is None and profile == "smoke":
        methods = IN_SMOKE
    columns = {BASE_NEW: _base_new(profile), NEW_CLIENTS: _new_clients(profile), UNSEEN: _unseen(profile)}
    if profile == "quick":
        columns = {name: [replace(column, settings=SHORT.get(name, {}) | column.settings) for column in each]
                   for name, each in columns.items()}
    return {name: build_grid(name, profile, rows, each, seeds, methods, overrides) for name, each in columns.items()}


def _base_new(profile: str) -> list[Column]:
    titles = {"smoke": ("OxfordPets",), "paper": ("Flowers102", "OxfordPets", "Food101", "Caltech101", "DTD")}
    fewer = {} if profile == "paper" else FEWER
    return [_column(title, profile, evaluate=BASE_NEW, **fewer) for title in titles.get(profile, ("Flowers102",
                                                                                             "OxfordPets"))]


def _new_clients(profile: str) -> list[Column]:
    """Newcomers whose classes nobody else has, and newcomers who share theirs."""
    asked = f"{NEW_CLIENTS}:{SHARE}"
    apart = _column("OxfordPets", profile, evaluate=asked)
    shared = _column("OxfordPets", profile, evaluate=asked, partition="dirichlet")
    shared = replace(shared, title="OxfordPets, Dir(0.5)")
    return [apart] if profile == "smoke" else [apart, shared]


def _unseen(profile: str) -> list[Column]:
    """Every domain left out in turn."""
    dataset = STAND_INS["Office-Caltech10"][profile != "paper"]
    domains = DOMAINS[dataset][: 2 if profile == "smoke" else None]
    clients = PER_DOMAIN * (len(DOMAINS[dataset]) - 1)
    return [Column(f"without {domain}", dataset, domain, settings={"evaluate": f"{UNSEEN}:{domain}",
                                                                   "clients": clients}) for domain in domains]


def _column(title: str, profile: str, **settings: Any) -> Column:
    real, embedded = STAND_INS[title]
    return Column(title, real if profile == "paper" else embedded, settings=settings)



def here(wanted: Mapping[str, Grid], place: Place = Place()) -> tuple[dict[str, Grid], dict[str, str]]:
    """The grids without the data sets that are not here; and of those that have none left the reason.

    Raises:
        UserError: nothing can be run.
    """
    found, reasons = {}, {}
    for name, grid in wanted.items():
        try:
            found[name] = reachable(grid, place).filled
        except UserError as error:
            reasons[name] = str(error)
    if not found:
        raise UserError(" ".join(reasons.values()))
    return found, reasons
