"""Fair budgets: every method has the same number of tries, on validation draws, never on the sets that are reported.

    plan = plan_tuning("quick")
    tries = run_tuning(plan, store=store)
    grids = tuned_grids(plan, choose(tries))

A try is a learning rate and a value of the method's own setting; try 0 is the paper's setting. What a method is tried
with was fixed beforehand and is this project's choice: the paper does not say how rivals were tuned.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from pfedmoap.errors import UserError, refuse_unknown
from pfedmoap.experiments.datasets import validation_draw
from pfedmoap.experiments.experiment import Experiment
from pfedmoap.experiments.grid import Column, Grid, Row
from pfedmoap.experiments.paper_tables import table1
from pfedmoap.experiments.preparation import Place
from pfedmoap.experiments.profiles import SEEDS, from_profile
from pfedmoap.experiments.runs import run_all
from pfedmoap.experiments.store import Store
from pfedmoap.methods import METHODS, Method
from pfedmoap.system import write_atomically

TRIES = 6  # of every method
VALIDATION_SEEDS = (0,)  # of no profile, so that classes are dealt as in none of the runs that are reported
RATES = (1, 1 / 4, 4)  # times the experiment's learning rate
MORE_RATES = (1, 1 / 8, 1 / 4, 1 / 2, 2, 4)  # of methods that have nothing else to tune
OTHER: dict[str, tuple[str, Any]] = {  # a method's own setting, and its value beside the paper's
    "promptfl_ft": ("final_epochs", 10),
    "fedper": ("shared_tokens", 1),
    "fedprox": ("mu", 5.0),
    "fedamp": ("attraction", 0.1),
    "pfedprompt": ("cache_weight", 10.0),
    "fedotp": ("mass", 1.0),
    "fedpgp": ("mu", 0.1),
    "pfedmoap": ("lam", 0.0),
}
GROUPS = {"paper": "the paper's settings", "once": "tuned once for all", "per_dataset": "tuned per data set"}


@dataclass(frozen=True)
class Try:
    """One setting of a method.

    Attributes:
        number: its place among the method's tries; 0 is the paper's setting.
        method: with its own setting.
        rate: factor on the experiment's learning rate.
    """

    number: int
    method: Method
    rate: float

    @property
    def own(self) -> dict[str, Any]:
        """The method's own setting and its value; empty for methods that have none to tune."""
        setting, _ = OTHER.get(self.method.name, ("", None))
        return {setting: getattr(self.method, setting)} if setting else {}


@dataclass(frozen=True)
class Tuning:
    """What is tried, and where.

    Attributes:
        profile: whose settings everything else is.
        columns: the data sets of Table 1 that are reported; tries are run on their validation draws.
        tries: method -> its tries.
        seeds: of the validation runs.
        overrides: settings of `Experiment` in place of the profile's, in every run.
    """

    profile: str
    columns: tuple[Column, ...]
    tries: Mapping[str, tuple[Try, ...]]
    seeds: tuple[int, ...]
    overrides: Mapping[str, Any]

    def runs(self, each: Try, column: Column, dataset: str, seeds: Sequence[int]) -> tuple[Experiment, ...]:
        """A try on a column's data set or on its validation draw: one run per seed."""
        base = from_profile(dataset, each.method, self.profile, column.settings, **self.overrides)
        return tuple(replace(base, lr=base.lr * each.rate, seed=seed) for seed in seeds)

    def cells(self) -> Iterator[tuple[str, Column, Try, tuple[Experiment, ...]]]:
        """Method, column, try, and its runs on the validation draw."""
        for name, tries in self.tries.items():
            for column in self.columns:
                for each in tries:
                    yield name, column, each, self.runs(each, column, validation_draw(column.dataset), self.seeds)

    def __iter__(self) -> Iterator[Experiment]:
        """All validation runs, each once."""
        yield from dict.fromkeys(item for *_, experiments in self.cells() for item in experiments)


@dataclass(frozen=True)
class Choices:
    """The tries with the highest validation accuracy; of equal ones the first, so that the paper's setting comes first.

    Attributes:
        once: method -> the number of its try for all data sets, by the mean over them.
        per_dataset: method -> data set -> the number of its try there.
    """

    once: Mapping[str, int]
    per_dataset: Mapping[str, Mapping[str, int]]


def tunable() -> tuple[str, ...]:
    """The methods of Table 1 that have something to tune: all but the untrained one and controls."""
    return tuple(dict.fromkeys(row.method.name for row in table1().compared if row.method.name != "zero_shot"))


def candidates(name: str) -> tuple[Try, ...]:
    """A method's tries: learning rates times the values of its own setting, or more learning rates."""
    paper = METHODS[name]()
    if name in OTHER:
        setting, value = OTHER[name]
        pairs = [(method, rate) for method in (paper, replace(paper, **{setting: value})) for rate in RATES]
    else:
        pairs = [(paper, rate) for rate in MORE_RATES]
    return tuple(Try(number, method, rate) for number, (method, rate) in enumerate(pairs))


def plan_tuning(
    profile: str = "quick", methods: Sequence[str] | None = None, datasets: Sequence[str] | None = None,
    seeds: Sequence[int] = VALIDATION_SEEDS, **overrides: Any,
) -> Tuning:  # fmt: skip
    """What is tried for Table 1.

    Args:
        methods: names of those to tune; None: all that can be.
        datasets: which of the table's data sets, by name; None: all.
        seeds: of the validation runs.
        overrides: settings of `Experiment` that replace the profile's, also in the runs that are reported.

    Raises:
        UserError: an unknown profile, method, data set or setting, a method without anything to tune, a data set
            without a validation draw, or nothing is left.
    """
    methods = tunable() if methods is None else methods
    untrained = [name for name in methods if name in METHODS and name not in tunable()]
    if untrained:
        raise UserError(f"{untrained[0]} is not trained and has nothing to tune: choose from {', '.join(tunable())}.")
    refuse_unknown(methods, tunable(), "method to tune")
    columns = table1(profile).columns
    known = [column.dataset for column in columns]
    if datasets is not None:
        refuse_unknown(datasets, known, f"data set of Table 1 ({profile})")
        columns = tuple(column for column in columns if column.dataset in datasets)
    if not methods or not columns or not seeds:
        raise UserError("Tuning needs at least one method, one data set and one seed.")
    for column in columns:
        validation_draw(column.dataset)
    tries = {name: candidates(name) for name in tunable() if name in methods}
    return Tuning(profile, columns, tries, tuple(seeds), overrides)


def run_tuning(
    plan: Tuning, place: Place = Place(), *, store: Store, jobs: int | None = None, progress: bool = True
) -> pd.DataFrame:
    """Runs what the store lacks on the validation draws.

    Returns:
        One line per method, data set and try: columns method, dataset, try, settings, accuracy (in percent on the
        validation draw after the last round, mean over seeds) and seeds.
    """
    found = run_all(plan, place, store=store, jobs=jobs, progress=progress).set_index("key")["accuracy"]
    return pd.DataFrame([
        {"method": name, "dataset": column.dataset, "try": each.number, "settings": in_words(each, experiments[0].lr),
         "accuracy": found[[item.key for item in experiments]].mean(), "seeds": len(experiments)}
        for name, column, each, experiments in plan.cells()])


def choose(tries: pd.DataFrame) -> Choices:
    """The best try of each method by `run_tuning`'s accuracies, over all data sets and on each."""
    # What differs by the rounding of single precision is equal.
    accuracy = tries.pivot(index=["method", "try"], columns="dataset", values="accuracy").round(4)
    accuracy["mean over all"] = accuracy.mean(axis=1).round(4)
    best = {name: accuracy.loc[name].idxmax() for name in dict.fromkeys(tries["method"])}  # the first of equal ones
    datasets = list(dict.fromkeys(tries["dataset"]))
    return Choices({name: int(own["mean over all"]) for name, own in best.items()},
                   {name: {dataset: int(own[dataset]) for dataset in datasets} for name, own in best.items()})


def at_the_edge(plan: Tuning, choices: Choices) -> tuple[str, ...]:
    """Methods whose choice for all data sets is at the smallest or largest rate tried: the best may lie beyond."""
    rates = {name: sorted(each.rate for each in tries) for name, tries in plan.tries.items()}
    return tuple(name for name, tries in plan.tries.items()
                 if tries[choices.once[name]].rate in (rates[name][0], rates[name][-1]))


def tuned_grids(plan: Tuning, choices: Choices, seeds: Sequence[int] | None = None) -> dict[str, Grid]:
    """The runs that are reported, on the sets themselves: a grid of the tuned methods for each of `GROUPS`.

    Those with the paper's settings are Table 1's own.

    Args:
        seeds: None: the profile's.
    """
    seeds = SEEDS[plan.profile] if seeds is None else seeds
    rows = tuple(Row(METHODS[name].title, tries[0].method) for name, tries in plan.tries.items())

    def number(group: str, name: str, dataset: str) -> int:
        return {"paper": 0, "once": choices.once[name], "per_dataset": choices.per_dataset[name][dataset]}[group]

    return {group: Grid("tuned", plan.profile, rows, plan.columns, {
        (METHODS[name].title, column.title):
            plan.runs(tries[number(group, name, column.dataset)], column, column.dataset, seeds)
        for name, tries in plan.tries.items() for column in plan.columns}) for group in GROUPS}


def in_words(each: Try, lr: float) -> str:
    """A try's settings with the learning rate that it comes to: "lr 0.002, lam 0.5"."""
    own = [f"{setting} {'half' if value is None else f'{value:g}'}" for setting, value in each.own.items()]
    return ", ".join([f"lr {lr:g}", *own])


def write_tuning(
    plan: Tuning, tries: pd.DataFrame, choices: Choices, store: Store, folder: str | Path
) -> list[Path]:
    """Writes tuning.csv (all tries) and tuning.json (the choices, and what they rest on); returns their paths."""
    content = tries.to_csv(index=False, float_format="%.4f", lineterminator="\n")
    facts = json.dumps(_facts(plan, tries, choices, store), indent=1, ensure_ascii=False) + "\n"
    paths = [Path(folder) / "tuning.csv", Path(folder) / "tuning.json"]
    for path, text in zip(paths, (content, facts), strict=True):
        write_atomically(path, text.encode())
    return paths


def _facts(plan: Tuning, tries: pd.DataFrame, choices: Choices, store: Store) -> dict[str, Any]:
    records = [store.get(experiment) for experiment in plan]
    on = {column.dataset: validation_draw(column.dataset) for column in plan.columns}
    means = tries.groupby(["method", "try"])["accuracy"].mean()
    each = tries.set_index(["method", "dataset", "try"])

    def told(name: str, number: int, dataset: str) -> dict[str, Any]:
        rows = [each.loc[name, dataset, place] for place in (number, 0)]
        return {"try": number, "settings": rows[0]["settings"], "accuracy": round(rows[0]["accuracy"], 4),
                "accuracy_paper": round(rows[1]["accuracy"], 4)}

    first = plan.columns[0].dataset
    once = {name: told(name, number, first) | {"accuracy": round(means[name, number], 4),
                                               "accuracy_paper": round(means[name, 0], 4)}
            for name, number in choices.once.items()}
    return {
        "profile": plan.profile,
        "tries_per_method": TRIES,
        "seeds": list(plan.seeds),
        "overrides": dict(plan.overrides),
        "chosen_on": on,
        "data": {record["experiment"]["dataset"]: record["data"].get("fingerprint") for record in records},
        "notes": sorted({note for record in records for note in record["data"]["notes"]}),
        "runs": len(records),
        "seconds": round(sum(record["seconds"]["total"] for record in records), 1),
        "clip": sorted({record["clip"]["fingerprint"] for record in records if "clip" in record}),
        "at_the_edge": list(at_the_edge(plan, choices)),
        "once": once,
        "per_dataset": {name: {dataset: told(name, number, dataset) for dataset, number in own.items()}
                        for name, own in choices.per_dataset.items()},
        "keys": [record["key"] for record in records],
    }
