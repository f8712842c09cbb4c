"""The released code's differences one at a time: the runs of `03_paper_and_code`, one data set per table."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pfedmoap.errors import refuse_unknown
from pfedmoap.experiments import GRIDS, STAND_INS, Column, Experiment, Grid, Methods, Row, Seeds, build_grid
from pfedmoap.methods import CoOp, FedAMP, FedProx, PFedMoAP, PromptFL, ZeroShot, ZeroShotPrior
from pfedmoap.released.protocol import RELEASED, SWITCHES, released

# The table -> the column whose data stand in for it; in the `paper` profile any of its columns can.
TABLES = {"table1": "Flowers102", "table2": "CIFAR10", "table3": "Average", "table4": "Average"}
SWITCHED = ZeroShot(), PromptFL(), FedProx(), CoOp(), PFedMoAP()  # run under every switch that touches them
WITH_DOMAINS = (*STAND_INS["DomainNet"], *STAND_INS["Office-Caltech10"])
LABELS = "label_pairing", "class_names"  # the switches that concern only them
# Run under these two only: as Table 3's published row, and with nothing to learn but who owns which labels.
ON_LABELS = PFedMoAP(lam=5.0, experts=19), ZeroShotPrior()
NAMES = tuple(dict.fromkeys(method.name for method in SWITCHED + ON_LABELS))
# 40 classes, by the released code's rule: 13 clients get three, the last gets one, as in OxfordPets nine get four.
UNEVEN, UNEVEN_COLUMN = {"clients": 14}, "Caltech101"
# What `smoke` runs of the above and of the switches: enough to see that everything works.
SMOKE_TABLES, SMOKE_SWITCHES = ("table1", "table3"), ("label_pairing", "optimizer", "class_deal")
# As much local training as in the paper's Table 3, and CoOp's 25 epochs; learning rates are the paper's everywhere.
LONG = {"quick": {"rounds": 25, "participation": 0.25, "local_epochs": 5}, "smoke": {"rounds": 3}}
LONG_COOP = {"quick": {"rounds": 5}, "smoke": {}}

Names = tuple[str, ...]  # the switches that are as in the released code


def switchboards(
    profile: str = "quick",
    tables: Sequence[str] | None = None,
    switches: Sequence[str] | None = None,
    seeds: Seeds = None,
    methods: Methods = None,
    **overrides: Any,
) -> dict[str, Grid]:
    """A switchboard for every table, and two for what the embedded sets' own settings cannot show.

    Args:
        tables, switches: names of those to keep; None: all, in `smoke` a few.
        seeds, methods, overrides: as in `tables`.

    Returns:
        Name -> grid: "table1" to "table4"; outside the `paper` profile also "table1_uneven", where `class_deal` deals
        unevenly (not in `smoke`), and "table3_long", the switches of the labels with the paper's rounds and epochs.
    """
    switches = switches or (SMOKE_SWITCHES if profile == "smoke" else tuple(SWITCHES))
    refuse_unknown(switches, list(SWITCHES), "protocol switch")
    chosen = tables or (SMOKE_TABLES if profile == "smoke" else tuple(TABLES))
    refuse_unknown(chosen, list(TABLES), "table of the switchboard")
    refuse_unknown(methods or (), list(NAMES), "method of the switchboard")
    rest = seeds, methods
    boards = {table: switchboard(table, profile, switches, *rest, **overrides) for table in chosen}
    if profile != "paper":
        if "table1" in chosen and "class_deal" in switches and profile != "smoke":
            uneven = UNEVEN | overrides
            boards["table1_uneven"] = switchboard(
                "table1", profile, ["class_deal"], *rest, together=False, column=UNEVEN_COLUMN, **uneven)
        labels = [name for name in LABELS if name in switches]
        if "table3" in chosen and profile in LONG and labels and set(methods or NAMES) - {FedProx.name}:
            boards["table3_long"] = switchboard(
                "table3", profile, labels, *rest, together=False, long=True, **overrides)
    return boards


def switchboard(
    table: str,
    profile: str = "quick",
    switches: Sequence[str] = tuple(SWITCHES),
    seeds: Seeds = None,
    methods: Methods = None,
    together: bool = True,
    long: bool = False,
    column: str | None = None,
    **overrides: Any,
) -> Grid:
    """Each method under the paper's protocol, under each switch alone that touches it, and under all of them.

    On sets with domains also under both switches of the labels. The runs are those of the table's own grid wherever
    that has them.

    Args:
        table: one of `TABLES`.
        switches: those that are run alone.
        together: also run the released protocol, which is all switches at once.
        column: the table's column to run; None: that of `TABLES`.
        long: with as many rounds and epochs as the paper's; CoOp then has its 25 epochs, and FedProx is left out.
    """
    own, wanted = GRIDS[table](profile, **overrides), column or TABLES[table]
    columns = [_column(column, profile, overrides, long) for column in own.columns
               if column.title == wanted or (profile == "paper" and column.domain is None)]
    rows = {row.method: row for row in own.rows if not row.released}
    protocols: list[Names] = [(name,) for name in switches]
    if set(LABELS) <= set(switches):
        protocols.append(LABELS)
    if together:
        protocols.append(tuple(SWITCHES))
    few = [names for names in protocols if len(names) > 1 or names[0] in LABELS]
    found = []
    for method in (*SWITCHED, *ON_LABELS * (columns[0].dataset in WITH_DOMAINS)):
        row = rows[method]
        if method.name not in (methods or NAMES) or (long and isinstance(method, FedProx)):
            continue
        if long and isinstance(method, CoOp):
            row = replace(row, settings=LONG_COOP[profile])
        runs = [replace(own.cells[row.title, column.title][0], **column.settings) for column in columns]
        found += _switched(row, runs, protocols if method in SWITCHED else few)
    return build_grid(table, profile, found, columns, seeds, None, overrides)


def touches(switch: str, item: Experiment) -> bool:
    """Whether a switch can change what a run gives, beyond rounding; said for the paper's sets and their stand-ins.

    Where it cannot, the accuracy under the switch is that under the paper's protocol, and nothing needs to be run.
    """
    method = item.method
    match switch:
        case "label_pairing":
            return item.partition == "domain_dirichlet"
        case "class_names":
            return item.dataset.removesuffix("-validation") in WITH_DOMAINS
        case "expert_selection":
            return isinstance(method, PFedMoAP) and method.gate != "none" and method.expert_choice == "nearest"
        case "round_order":
            return isinstance(method, PFedMoAP | FedAMP)
        case "optimizer" | "prompt_init" | "precision":
            return not isinstance(method, ZeroShot)
        case "cifar_preprocess":
            return item.dataset in ("cifar10", "cifar100")
        case "fedprox_gradient":
            return isinstance(method, FedProx) and method.mu > 0
        case "coop_epochs":
            return isinstance(method, CoOp)
        case "class_deal":
            return item.partition == "label_disjoint"
        case _:  # data_seed
            return True


def _switched(row: Row, runs: Sequence[Experiment], protocols: Sequence[Names]) -> Iterator[Row]:
    """A row, and after it the row under each protocol that touches one of its runs."""
    yield row
    for names in protocols:
        if any(touches(name, run) for name in names for run in runs):
            protocol = released(*names)
            title = f"{row.title}, {protocol}{' protocol' * (protocol == RELEASED)}"
            yield replace(row, title=title, settings={**row.settings, "protocol": protocol}, released=row.title)


def _column(column: Column, profile: str, overrides: dict[str, Any], long: bool) -> Column:
    """The column with the name of the data set that is run, and with the budget of a long run."""
    real, embedded = next(pair for pair in STAND_INS.values() if column.dataset in pair)
    name = real if profile == "paper" else embedded
    if "clients" in overrides:
        name += f", {overrides['clients']} clients"
    name += ", long runs" * long
    return replace(column, stand_in=name, settings={**column.settings, **(LONG[profile] if long else {})})
