"""Sentences of `06_beyond_the_paper`, computed from the records: true in every profile."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pfedmoap.beyond.answers import H
from pfedmoap.beyond.study.numbers import curves, gate_worth, measures
from pfedmoap.experiments import Grid, Store
from pfedmoap.methods import PFedMoAP, ZeroShot
from pfedmoap.reports import statistics

TOLD = 0.5  # points; a mean difference that is smaller counts as none


def unseen_classes(grid: Grid, store: Store) -> str:
    """Who knows new classes, who knows all three, and what the gate is worth there; a paragraph per data set."""
    lines, worth = measures(grid, store), gate_worth(grid, store)
    paragraphs = []
    for column, heading in zip(grid.columns, grid.headings(), strict=True):
        here = lines[lines["column"] == column.title]
        new, means = (_by_row(here[here["measure"] == measure]) for measure in ("new", H))
        learned = [row.title for row in grid.compared if not isinstance(row.method, ZeroShot) and row.title in new]
        sentences = []
        if len(learned):
            sentences.append(f"of the methods that learn a prompt {_best(new, learned)} is best on new classes, "
                             f"{_best(means, learned)} by H")
        if zero := _zero_shot(grid, new):
            better = [row for row in learned if new[row] > new[zero]]
            sentences.append(f"{zero}, which learns nothing, has {new[zero]:.1f} % there, and {len(better)} of "
                             f"{len(learned)} learned methods more")
        ours = [row.title for row in grid.compared]
        gates = worth[(worth["column"] == column.title) & worth["row"].isin(ours)] if len(worth) else worth
        paragraphs.append(f"**{heading}.** {_joined(sentences)} {_gates(gates)}".strip())
    return "\n\n".join(paragraphs)


def _gates(here: pd.DataFrame) -> str:
    if not len(here):
        return ""
    parts = []
    for row, own in here.groupby("row", sort=False):
        local, new = (own.loc[own["measure"] == measure, "difference"].to_numpy() for measure in ("local", "new"))
        parts.append(f"{row}: {_points(local)} on a client's own classes, {_points(new)} on new ones")
    return f"What the gate adds to the client's prompt alone: {'; '.join(parts)}."


def newcomers(grid: Grid, store: Store) -> str:
    """How newcomers start, how long they need to pass zero-shot, and what experts add; a paragraph per column."""
    points = curves(grid, store)
    paragraphs = []
    for column, heading in zip(grid.columns, grid.headings(), strict=True):
        here = points[points["column"] == column.title]
        first = here[here["curve"] == "epochs"].groupby(["row", "at"])["accuracy"].mean().unstack("at")
        cold = first[0]
        partition = next(runs[0].partition for (_, title), runs in grid.cells.items() if title == column.title)
        learned = [row.title for row in grid.compared if not isinstance(row.method, ZeroShot) and row.title in cold]
        sentences = [f"newcomers start between {cold[learned].min():.1f} % ({cold[learned].idxmin()}) and "
                     f"{cold[learned].max():.1f} % ({cold[learned].idxmax()})"] if learned else []
        if learned and (zero := _zero_shot(grid, cold)):
            needed = _passing(first.loc[learned], cold[zero])
            sentences.append(f"to pass {zero} ({cold[zero]:.1f} %) they need {needed}")
        paragraphs.append(f"**{heading}, {partition}.** {_joined(sentences)} {_experts(grid, here)}".strip())
    return "\n\n".join(paragraphs)


def _passing(first: pd.DataFrame, bar: float) -> str:
    """How many local epochs bring how many methods above a bar."""
    reached = first.apply(lambda line: next((at for at in first.columns if line[at] > bar), None), axis=1)
    counts = reached.dropna().astype(int).value_counts().sort_index()
    parts = [f"{at} epoch{'s' * (at != 1)} ({count} method{'s' * (count > 1)})" for at, count in counts.items()]
    never = int(reached.isna().sum())
    parts += [f"more than {first.columns.max()} epochs ({never} method{'s' * (never > 1)})"] * (never > 0)
    return ", ".join(parts)


def _experts(grid: Grid, here: pd.DataFrame) -> str:
    """pFedMoAP's second participation against its first, after as many epochs."""
    parts = []
    for row in grid.rows:
        own = here[here["row"] == row.title].set_index(["curve", "at", "seed"])["accuracy"].sort_index()
        if not isinstance(row.method, PFedMoAP) or row.control or "experts" not in own.index.get_level_values(0):
            continue
        usual = next(runs[0].local_epochs for (title, _), runs in grid.cells.items() if title == row.title)
        difference = own["experts", usual] - own["epochs", usual]
        untrained = own["experts", 0] - own["epochs", 0]
        parts.append(f"{row.title}: {_points(difference.to_numpy())} after {usual} epoch{'s' * (usual > 1)} each; "
                     f"before the fresh gate has trained {_points(untrained.to_numpy())}")
    return f"With experts and a gate instead of the prompt alone: {'; '.join(parts)}." if parts else ""


def domains(grid: Grid, store: Store) -> str:
    """Who is best on domains that nobody trained on, and whether learning helps there at all."""
    lines = measures(grid, store)
    unseen = lines[lines["measure"] == "unseen"]
    by_seed = statistics.by_seed(unseen.assign(client=0))  # (rows, seeds), means over the domains
    means = by_seed.mean(axis=1)
    learned = [row.title for row in grid.compared if not isinstance(row.method, ZeroShot) and row.title in means]
    classifiers = [row.title for row in grid.rows if row.method.plain and row.title in means]
    sentences = []
    if learned:
        sentences.append(f"of the methods that learn a prompt {_best(means, learned)} is best on domains left out")
    if learned and (zero := _zero_shot(grid, means)):
        off = {row: (by_seed.loc[row] - by_seed.loc[zero]).to_numpy() for row in learned}
        top = max(learned, key=lambda row: means[row])
        better = [row for row in learned if off[row].mean() > TOLD]
        sentences.append(f"{len(better)} of {len(learned)} are above {zero} ({means[zero]:.1f} %) by more than "
                         f"{TOLD:g} points; {top} less {zero}: {_points(off[top])}")
    if classifiers:
        sentences.append(f"of the plain classifiers {_best(means, classifiers)} is best")
    return _joined(sentences)


def _by_row(lines: pd.DataFrame) -> pd.Series:
    return lines.groupby("row")["accuracy"].mean()


def _zero_shot(grid: Grid, means: pd.Series) -> str:
    return next((row.title for row in grid.rows if type(row.method) is ZeroShot and row.title in means), "")


def _best(means: pd.Series, rows: Sequence[str]) -> str:
    return f"{means[list(rows)].idxmax()} ({means[list(rows)].max():.1f} %)"


def _points(differences: np.ndarray) -> str:
    """Such as "-4.1 points (p 0.031)", with few seeds "-4.1 points (below 0 in 3 of 3 seeds)"."""
    mean, seeds = np.round(differences.mean(), 1) + 0.0, len(differences)
    if statistics.can_separate(seeds):
        detail = f"p {statistics.sign_flip(differences[:, None])[0]:.2g}"
    elif seeds == 1:
        detail = "one seed"
    else:
        count = int((np.sign(differences) == np.sign(mean)).sum())
        detail = f"{'above' if mean > 0 else 'below' if mean < 0 else 'at'} 0 in {count} of {seeds} seeds"
    return f"{mean:+.1f} points ({detail})"


def _joined(sentences: Sequence[str]) -> str:
    return " ".join(f"{sentence[:1].upper()}{sentence[1:]}." for sentence in sentences)
