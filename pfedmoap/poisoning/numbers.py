"""From runs under attack to numbers, as tidy frames."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pfedmoap.experiments import Grid
from pfedmoap.poisoning.runs import Scenario
from pfedmoap.poisoning.study import title

Results = Mapping[Scenario, dict[str, Any]]
CELL = ["deal", "method", "attack", "filter"]  # what names a cell


def per_seed(federations: Grid, results: Results) -> pd.DataFrame:
    """One line per run.

    Returns:
        Columns deal, method, attack, filter, seed; accuracy and success in percent, and attention (1: an even share;
        NaN where no gate sees an attacker's expert), means over the clients that are tested; honest, attackers: shares
        of their uploads that were refused, in percent (NaN without any).
    """
    deals = {run: (row, deal) for (row, deal), runs in federations.cells.items() for run in runs}
    lines = []
    for one, found in results.items():
        method, deal = deals[one.experiment]
        lines.append({
            "deal": deal, "method": method, "attack": title(one.attack), "filter": one.filter,
            "seed": one.experiment.seed, "accuracy": 100 * float(np.mean(found["accuracy"])),
            "success": 100 * _mean(found["success"]), "attention": _mean(found["attention"])}
            | {side: 100 * found["refused"][side] / count if count else np.nan
               for side, count in found["uploads"].items()})
    return pd.DataFrame(lines)


def summary(federations: Grid, results: Results) -> pd.DataFrame:
    """One line per cell: means and population standard deviations over seeds of what `per_seed` has."""
    over = per_seed(federations, results).groupby(CELL, sort=False)
    frame = pd.DataFrame({"seeds": over.size()})
    for name in ("accuracy", "success", "attention"):
        frame[name], frame[f"{name}_std"] = over[name].mean(), over[name].std(ddof=0)
    for name in ("honest", "attackers"):
        frame[f"{name}_refused"] = over[name].mean()
    return frame.reset_index()


def _mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else np.nan
