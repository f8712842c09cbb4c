"""From audits to numbers, as tidy frames: areas under the curve per client, and their summaries over seeds."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from pfedmoap.experiments import Experiment, Grid
from pfedmoap.leakage import attacks, ownership
from pfedmoap.leakage.auditing import Audit
from pfedmoap.leakage.bounds import auc_bound, gaussian_auc
from pfedmoap.leakage.scoring import auc, chance, chance_of_deal, true_positives
from pfedmoap.leakage.study import protection

Audits = Mapping[Experiment, Audit]
MEMBERSHIP, OWNERSHIP, DECODING = "membership", "class ownership", "decoding"
CELL = ["data", "method", "protection"]  # what names a cell of the study


def cells(grid: Grid, audits: Audits) -> list[tuple[dict, Audit]]:
    """Every audit of a grid with the names of its cell and its seed."""
    headings = dict(zip([column.title for column in grid.columns], grid.headings(), strict=True))
    return [({"data": headings[column], "method": one.method.title, "protection": protection(one.epsilon),
              "seed": one.seed}, audits[one])
            for (_, column), runs in grid.cells.items() for one in runs]


def per_client(grid: Grid, audits: Audits) -> pd.DataFrame:
    """One line per client and attack: data, method, protection, seed, client, kind, attack, value.

    The value is an area under the curve, of kind "decoding" also "unchanged": a share of context vectors.
    """
    lines = []
    for cell, one in cells(grid, audits):
        for client in one["clients"]:
            values = {
                MEMBERSHIP: {name: auc(scores, client["member"]) for name, scores in client["membership"].items()},
                OWNERSHIP: client["ownership auc"], DECODING: client["decoding"]}
            lines += [cell | {"client": client["client"], "kind": kind, "attack": name, "value": value}
                      for kind, own in values.items() for name, value in own.items()]
    return pd.DataFrame(lines)


def summary(grid: Grid, audits: Audits) -> pd.DataFrame:
    """One line per cell and attack: mean over clients, then mean and population standard deviation over seeds.

    Returns:
        Columns data, method, protection, kind, attack, seeds, mean, std; highest and lowest: the most and the least
        exposed client of a seed, mean over seeds; true_positives: of membership attacks, all clients of a seed
        together, at a false-positive rate of `scoring.FEW`, mean over seeds.
    """
    names = [*CELL, "kind", "attack"]
    by_seed = per_client(grid, audits).groupby([*names, "seed"], sort=False)["value"].agg(["mean", "max", "min"])
    over = by_seed.groupby(names, sort=False)
    frame = pd.DataFrame({"seeds": over.size(), "mean": over["mean"].mean(), "std": over["mean"].std(ddof=0),
                          "highest": over["max"].mean(), "lowest": over["min"].mean()})
    found = pd.DataFrame([cell | {"attack": name, "true_positives": true_positives(*pooled([one], name))}
                          for cell, one in cells(grid, audits) for name in attacks.ATTACKS])
    found = found.assign(kind=MEMBERSHIP).groupby(names, sort=False)["true_positives"].mean()
    return frame.join(found).reset_index()


def pooled(audits: list[Audit], attack: str) -> tuple[np.ndarray, np.ndarray]:
    """All clients' candidates together: the attack's scores and who is a member, each (n,)."""
    clients = [client for one in audits for client in one["clients"]]
    return (np.concatenate([client["membership"][attack] for client in clients]),
            np.concatenate([client["member"] for client in clients]).astype(bool))


def guessing(grid: Grid, audits: Audits) -> pd.DataFrame:
    """What guessing membership would score, per data set: standard deviation of a cell's mean and of one client's area.

    Returns:
        Index data; columns clients (per seed), candidates (per client), one_client, cell.
    """
    lines = {}
    for cell, one in cells(grid, audits):
        sizes = [len(client["member"]) // 2 for client in one["clients"] if client["member"]]
        spread = [chance(size, size) for size in sizes]
        seeds = len({each.seed for each in audits if each in set(grid)})
        lines[cell["data"]] = {"clients": len(sizes), "candidates": 2 * int(np.mean(sizes)),
                               "one_client": float(np.mean(spread)),
                               "cell": float(np.mean(spread) / np.sqrt(len(sizes) * seeds))}
    return pd.DataFrame(lines).T.rename_axis("data")


def guessing_classes(grid: Grid, audits: Audits) -> pd.Series:
    """What guessing classes would score: standard deviation of a cell's mean over clients and seeds.

    It is that of the score at hand (`chance_of_deal`): one that favours the same classes for every client has next to
    none. Seeds count as independent, as each has a deal of its own; cells do not: they share deals and draws of noise.

    Returns:
        Index data, method, protection, attack.
    """
    lines = [cell | {"attack": name, "variance": chance_of_deal(
                np.array([client["ownership"][name] for client in one["clients"]]),
                np.array([client["owned"] for client in one["clients"]])) ** 2}
             for cell, one in cells(grid, audits) for name in ownership.SCORES]
    over = pd.DataFrame(lines).groupby([*CELL, "attack"], sort=False)["variance"]
    return np.sqrt(over.sum()) / over.count()


def covered(grid: Grid) -> str:
    """What (epsilon, delta) is promised for: "one upload, given what was sent" or "all uploads"."""
    return "all uploads" if next(iter(grid)).dp_accounting == "total" else "one upload, given what was sent"


def dp(grid: Grid, audits: Audits) -> pd.DataFrame:
    """One line per cell: accuracy in percent with own and uploaded prompts, noise, and what it guarantees.

    Returns:
        Columns data, method, protection, epsilon (NaN: none), accuracy_own, std_own, accuracy_uploaded, std_uploaded,
        bound_epsilon: the largest area under the curve that (epsilon, delta) leaves to an attack on what it is
        promised for (`covered`); bound_one, bound_all: what the noise that was added leaves to one on one upload, with
        what the client was sent taken as given, and to one on all rounds' together.
    """
    lines = []
    for cell, one in cells(grid, audits):
        settings = Experiment.from_dict(one["experiment"])
        own, uploaded = (100 * one["accuracy"][name] for name in ("own", "uploaded"))
        budget = np.nan if settings.epsilon is None else settings.epsilon
        shift = one["shift"]
        lines.append(cell | {
            "epsilon": budget, "own": own, "uploaded": uploaded,
            "bound_epsilon": 1.0 if np.isnan(budget) else auc_bound(budget, settings.delta),
            "bound_one": gaussian_auc(shift), "bound_all": gaussian_auc(shift, settings.rounds)})
    frame = pd.DataFrame(lines)
    over = frame.groupby(CELL, sort=False)
    table = over[["epsilon", "bound_epsilon", "bound_one", "bound_all"]].mean()
    for name in ("own", "uploaded"):
        table[f"accuracy_{name}"], table[f"std_{name}"] = over[name].mean(), over[name].std(ddof=0)
    return table.reset_index()


def others(grid: Grid, audits: Audits) -> pd.DataFrame:
    """What other clients learn, one line per cell, means over seeds.

    Returns:
        Columns data, method, protection; seen: prompts that a client is lent, and of how many others; membership and
        ownership: areas under the curve of the attacks that need no shadows and no names, on every prompt that is
        lent (of classes: against the other clients' prompts); linked and guessed (`lending.borrowed`); average: of the
        calibrated loss on the averaged prompt.
    """
    lines = []
    for cell, one in cells(grid, audits):
        by_client = {client["client"]: client for client in one["clients"]}
        lenders = {borrower: [lender for lender in own if lender in by_client]
                   for borrower, own in one["others"]["lenders"].items()}
        lent = [by_client[lender] for own in lenders.values() for lender in own]
        lines.append(cell | {
            "seen": np.mean([len(own) for own in one["others"]["lenders"].values()]) if lenders else np.nan,
            "of": Experiment.from_dict(one["experiment"]).clients - 1,
            "membership": _mean([auc(each["membership"][attacks.CALIBRATED], each["member"]) for each in lent]),
            "ownership": _mean([each["ownership auc"][ownership.OTHERS] for each in lent]),
            "linked": one["others"]["linked"], "guessed": one["others"]["guessed"],
            "average": one["average"][attacks.CALIBRATED]})
    frame = pd.DataFrame(lines).astype({name: float for name in ("linked", "guessed")})
    return frame.groupby(CELL, sort=False).mean(numeric_only=True).drop(columns="seed").reset_index()


def _mean(values: list[float]) -> float:
    return float(np.nanmean(values)) if len(values) else np.nan
