"""The paper's experiments: profiles, the grid of runs behind each table, and the published numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import pandas as pd

from pfedmoap.errors import UserError, refuse_unknown
from pfedmoap.experiment import Experiment
from pfedmoap.methods import (
    CoOp,
    FedAMP,
    FedOTP,
    FedPer,
    FedPGP,
    FedProx,
    Method,
    PFedMoAP,
    PFedPrompt,
    PromptFL,
    PromptFLFT,
    ZeroShot,
    ZeroShotOwnClasses,
    ZeroShotPrior,
)
from pfedmoap.paths import PROFILES, PUBLISHED

SEEDS = {"smoke": (1,), "quick": (1, 2, 3), "paper": (1, 2, 3)}

# The five label-disjoint sets of Table 1, and the embedded sets that stand in for them outside the `paper` profile.
LABEL_DISJOINT = {
    "Flowers102": ("flowers102", "patterns"),
    "OxfordPets": ("oxford_pets", "attr3"),
    "Food101": ("food101", "colorshape"),
    "Caltech101": ("caltech101", "texshape"),
    "DTD": ("dtd", "digits"),
}

# What a profile sets besides the data. `paper` is section 4.1; the others keep its learning rates and fit a laptop.
# The budget of `quick` was chosen on the validation draws of the embedded sets, not on the sets that are reported.
SETTINGS: dict[str, dict[str, Any]] = {
    "paper": dict(model="RN50-quickgelu", weights="openai", rounds=10, local_epochs=5, shots=16, batch_size=16),
    "quick": dict(rounds=4, local_epochs=2, shots=8, context_tokens=8),
    "smoke": dict(rounds=2, local_epochs=1, shots=4, context_tokens=4),
}
# Ten digits cannot be dealt to ten clients without one-class clients, which would be nearly free accuracy; ten classes
# give a client few batches, so that it gets more images and epochs.
DATASET_SETTINGS: dict[tuple[str, str], dict[str, Any]] = {
    ("smoke", "digits"): dict(clients=5),
    ("quick", "digits"): dict(clients=5, shots=16, local_epochs=5, context_tokens=4),
}
COOP_EPOCHS = 25  # in the paper; in the other profiles CoOp has the budget of the federated methods


def experiment(dataset: str, method: Method, profile: str = "quick", **overrides: Any) -> Experiment:
    """The profile's experiment for a data set and a method.

    Args:
        overrides: settings of `Experiment` that replace the profile's.

    Raises:
        UserError: unknown profile or setting.
    """
    refuse_unknown([profile], list(PROFILES), "profile")
    refuse_unknown(overrides, [item.name for item in fields(Experiment)], "setting")
    settings = SETTINGS[profile] | DATASET_SETTINGS.get((profile, dataset.removesuffix("-validation")), {})
    if profile == "paper" and isinstance(method, CoOp):
        settings["rounds"] = COOP_EPOCHS // settings["local_epochs"]
    settings |= {"dataset": dataset, "method": method} | overrides
    if profile == "paper" and "views" not in overrides:
        base = Experiment(**settings)
        settings["views"] = base.rounds * base.local_epochs  # a fresh view in every epoch
    return Experiment(**settings)


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        title: how it is called.
        method: what is run.
        published: the published row that it stands beside; empty if there is none.
        control: untrained or crippled on purpose, and set apart from the methods (SPEC 8).
    """

    title: str
    method: Method
    published: str = ""
    control: bool = False


@dataclass(frozen=True)
class Column:
    """A column of a table: the paper's data set, and the one that is run."""

    title: str
    dataset: str


@dataclass(frozen=True)
class Grid:
    """The runs behind a table.

    Attributes:
        name: "table1", ...; also the name of its published numbers.
        cells: (row title, column title) -> its experiments, one per seed.
    """

    name: str
    profile: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    cells: dict[tuple[str, str], tuple[Experiment, ...]]

    @property
    def compared(self) -> tuple[Row, ...]:
        """The rows that are no controls; if there are none, all."""
        return tuple(row for row in self.rows if not row.control) or self.rows

    def __iter__(self) -> Iterator[Experiment]:
        """All experiments of the grid."""
        for experiments in self.cells.values():
            yield from experiments


def table1(
    profile: str = "quick",
    seeds: Sequence[int] | None = None,
    methods: Sequence[str] | None = None,
    **overrides: Any,
) -> Grid:
    """Table 1: few-shot accuracy on five sets whose classes are dealt to ten clients.

    Args:
        seeds: None: the profile's.
        methods: names of the methods to run; None: all.
        overrides: settings that replace the profile's in every run.
    """
    rows = (
        Row("ZS-CLIP", ZeroShot(), "ZS-CLIP"),
        Row("CoOp", CoOp(), "CoOp"),
        Row("PromptFL", PromptFL(), "PromptFL"),
        Row("PromptFL+FT", PromptFLFT(), "PromptFL+FT"),
        Row("Prompt+FedPer", FedPer(), "Prompt+FedPer"),
        Row("Prompt+FedProx", FedProx(), "Prompt+FedProx"),
        Row("Prompt+FedAMP", FedAMP(), "Prompt+FedAMP"),
        Row("pFedPrompt", PFedPrompt(), "pFedPrompt"),
        Row("FedOTP", FedOTP(), "FedOTP"),
        Row("FedPGP", FedPGP()),
        Row("pFedMoAP (λ = 0)", PFedMoAP(lam=0.0), "pFedMoAP (lambda=0.0)"),
        Row("pFedMoAP (λ = 0.5)", PFedMoAP(lam=0.5), "pFedMoAP (lambda=0.5)"),
        *CONTROLS,
    )
    columns = tuple(Column(title, real if profile == "paper" else embedded)
                    for title, (real, embedded) in LABEL_DISJOINT.items())
    if profile == "smoke":  # one drawn set and one of real images are enough to see that everything runs
        columns = columns[0], columns[-1]
    return _grid("table1", profile, rows, columns, seeds, methods, overrides)


# What the evaluation gives away for knowing which classes a client owns, and what is left without experts or prompts.
CONTROLS = (
    Row("ZS-CLIP, own classes only", ZeroShotOwnClasses(), control=True),
    Row("ZS-CLIP + label prior", ZeroShotPrior(), control=True),
    Row("pFedMoAP without experts (K = 0)", PFedMoAP(experts=0), control=True),
    Row("pFedMoAP with a frozen prompt", PFedMoAP(train_prompt=False), control=True),
)
GRIDS = {"table1": table1}


def _grid(name, profile, rows, columns, seeds, methods, overrides) -> Grid:
    if methods is not None:
        refuse_unknown(methods, [row.method.name for row in rows], f"method in {name}")
        rows = tuple(row for row in rows if row.method.name in methods)
    refuse_unknown([profile], list(PROFILES), "profile")
    seeds = SEEDS[profile] if seeds is None else seeds
    if not rows or not seeds:
        raise UserError(f"{name} needs at least one method and one seed.")
    cells = {(row.title, column.title): tuple(
        replace(experiment(column.dataset, row.method, profile, **overrides), seed=seed) for seed in seeds)
        for row in rows for column in columns}
    return Grid(name, profile, rows, columns, cells)


def published(name: str) -> pd.DataFrame:
    """The published numbers of a table, in percent: columns table, dataset, method, setting, mean, std (SPEC 6).

    Raises:
        UserError: there is no such file, as when the package is used without the project's folder.
    """
    path = PUBLISHED / f"{name}.csv"
    if not path.is_file():
        raise UserError(f"The published numbers {path} are not there: run from a clone of the project.")
    return pd.read_csv(path)
