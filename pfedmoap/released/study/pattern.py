"""The published pattern of Tables 3 and 4, and whether mixed-up labels or names alone give it (SPEC 9).

Published: zero-shot at chance, PromptFL below CoOp, CoOp below pFedMoAP. Where the label that an image goes by says
nothing about the image, nothing about images can be learned, but which labels a client has still can.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd

from pfedmoap.data import ImageSet, Partition
from pfedmoap.experiments import Grid, Place, Store, dealt, load_dataset
from pfedmoap.methods import CoOp, PFedMoAP, PromptFL, ZeroShot
from pfedmoap.released.protocol import parse_protocol
from pfedmoap.released.study.differences import accuracies, name
from pfedmoap.released.study.switchboard import LABELS, WITH_DOMAINS, switchboard
from pfedmoap.reports import records

CHAIN = ZeroShot.title, PromptFL.title, CoOp.title, PFedMoAP.title  # from the lowest published row to the highest
CHANCE_MARGIN = 3.0  # points; the published zero-shot averages are less than 1 from chance, single domains up to 4
ROUNDING = 1e-6  # points; accuracies that should be equal can differ in the last bit
ON_LABELS = "paper", *LABELS, ",".join(LABELS), "released"  # the protocols that say what becomes of the labels
PRIOR = "always the most frequent label"


class Step(NamedTuple):
    """From one method to another: the difference in points, its spread over seeds, and in how many it is above 0."""

    lower: str
    upper: str
    mean: float
    spread: float
    above: int
    seeds: int

    @property
    def firm(self) -> bool:
        """Of one sign in every seed, and farther from 0 than the spread; with one seed any difference is."""
        return self.above in (0, self.seeds) and abs(self.mean) > self.spread + ROUNDING

    def __str__(self) -> str:
        return f"{round(self.mean, 1) + 0:+.1f}" + f" ± {self.spread:.1f}" * (self.seeds > 1)


def step(accuracy: pd.DataFrame, lower: str, upper: str) -> Step:
    """From one column to another: accuracies in percent, seeds by methods."""
    off = accuracy[upper] - accuracy[lower]
    return Step(lower, upper, off.mean(), off.std(ddof=0), int((off > ROUNDING).sum()), len(off))


def steps(accuracy: pd.DataFrame) -> list[Step]:
    """From each column to the next."""
    return [step(accuracy, lower, upper) for lower, upper in pairwise(accuracy)]


def at_chance(accuracy: pd.Series, chance: float) -> bool:
    return abs(accuracy.mean() - chance) <= CHANCE_MARGIN


def verdict(accuracy: pd.DataFrame, chance: float) -> str:
    """Whether the first method is at chance and each of the others above the one before it, in words.

    Args:
        accuracy: percent, seeds by methods, from the lowest published one to the highest.
        chance: accuracy of guessing, in percent.
    """
    against = [] if at_chance(accuracy.iloc[:, 0], chance) else [f"{accuracy.columns[0]} is not at chance"]
    against += [f"{step.upper} is not above {step.lower}" for step in steps(accuracy) if step.mean <= 0]
    if against:
        return "no: " + ", ".join(against)
    if len(accuracy) == 1:
        return "yes, but one seed shows no spread"
    if weak := [step for step in steps(accuracy) if not step.firm]:
        return "in the mean, but not firmly: " + ", ".join(
            f"{step.upper} above {step.lower} (in {step.above} of {step.seeds} seeds)" for step in weak)
    return "yes, in each seed and by more than the spread"


def with_domains(boards: Mapping[str, Grid]) -> list[Grid]:
    """The switchboards of sets with domains."""
    return [grid for grid in boards.values() if grid.columns[0].dataset in WITH_DOMAINS]


def chains(grid: Grid, store: Store) -> dict[tuple[str, str], pd.DataFrame]:
    """(protocol, pFedMoAP's name) -> accuracies from zero-shot to it, seeds by `CHAIN`; empty if one was not run."""
    wide = accuracies(grid, store)
    before = list(CHAIN[:-1])
    if not set(before) <= set(wide["paper"]):
        return {}
    ours = [name(row) for row in grid.rows if isinstance(row.method, PFedMoAP) and not row.released]
    return {(protocol, variant): wide[protocol][[*before, variant]].set_axis(CHAIN, axis=1)
            for variant in ours for protocol in ON_LABELS if protocol in wide}


def chance(grid: Grid, store: Store) -> float:
    """Accuracy of guessing, in percent."""
    *_, record = next(records(grid, store))
    return 100 / record["data"]["classes"]


# --- the labels alone


def most_frequent_label(shares: Partition) -> float:
    """What clients score who give every image their most frequent training label: mean over clients, in percent."""
    scores = [np.mean(test == np.bincount(train).argmax())
              for train, test in zip(shares.train_labels, shares.test_labels, strict=True)]
    return 100 * float(np.mean(scores))


def accuracy_lines(grid: Grid, store: Store, place: Place = Place()) -> pd.DataFrame:
    """Accuracies in percent, one line per protocol that concerns the labels and seed; columns the methods and `PRIOR`.
    """
    wide = accuracies(grid, store)
    imageset = load_dataset(grid.columns[0].dataset, place.data_root)
    runs = {run.seed: run for run in next(iter(grid.cells.values()))}
    lines = {}
    for protocol in [known for known in ON_LABELS if known in wide]:
        counted = {seed: most_frequent_label(dealt(replace(run, protocol=parse_protocol(protocol)), imageset))
                   for seed, run in runs.items()}
        lines[protocol] = wide[protocol].assign(**{PRIOR: pd.Series(counted)})
    return pd.concat(lines, names=["protocol", "seed"])


def pairings(boards: Mapping[str, Grid], place: Place = Place()) -> tuple[ImageSet, Partition, Partition]:
    """A set with domains, dealt with its own labels and with mispaired ones; an embedded one if no board has any."""
    (grid, *_) = with_domains(boards) or [switchboard("table3", "smoke")]
    run = next(iter(grid))
    imageset = load_dataset(run.dataset, place.data_root)
    return imageset, dealt(run, imageset), dealt(replace(run, protocol=parse_protocol("label_pairing")), imageset)
