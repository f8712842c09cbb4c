"""Whether a rerun gives the same tables, cell by cell."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pfedmoap.errors import UserError
from pfedmoap.experiments import GRIDS

EQUAL, ROUNDING, DIFFERENT = "equal", "within rounding", "different"
PRINTED = 1e-4  # the files have four decimals
MOVED = 0.2  # points: by so much at most 30 of 640 cells moved on another processor, the others not at all


def tolerance(std: pd.Series, seeds: pd.Series) -> pd.Series:
    """How far rounding may move a cell, in points.

    Sums are rounded otherwise on another processor or with another number of threads. Where training is stable, that
    moves a mean by at most `MOVED`. Where it is not (PromptFL's, on clients that share no class), rounding does to a
    run what another seed would, so that two means over n seeds of spread s lie within 2 s sqrt(2 / n) of each other.
    """
    return np.maximum(MOVED, 2 * std * np.sqrt(2 / seeds.clip(lower=1)))


def against(results: Path, rerun: Path, grids: Sequence[str] = ()) -> pd.DataFrame:
    """Cells of the tables in both folders.

    Args:
        grids: names of tables; none: all that are in both.

    Returns:
        Columns table, method, column, here, there (means in percent), difference, tolerance and state; a cell that the
        other folder lacks is different.

    Raises:
        UserError: there is no such folder.
    """
    if not rerun.is_dir():
        raise UserError(f"There is no folder {rerun} to compare with: make it with `pfedmoap reproduce --results DIR`.")
    found = [_of_table(results / f"{name}.csv", rerun / f"{name}.csv")
             for name in (grids or GRIDS) if (results / f"{name}.csv").is_file() and (rerun / f"{name}.csv").is_file()]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["state", "difference"])


def _of_table(here: Path, there: Path) -> pd.DataFrame:
    cells = pd.read_csv(here).merge(pd.read_csv(there), how="outer", on=["table", "method", "column"],
                                    suffixes=("", "_there"), sort=False)
    off = cells["mean_there"] - cells["mean"]
    allowed = tolerance(cells["std"], cells["seeds"])
    states = np.where(off.abs() <= PRINTED, EQUAL, np.where(off.abs() <= allowed, ROUNDING, DIFFERENT))
    # NaN: a cell without numbers, in one folder or in both
    states = np.where(cells["mean"].isna() & cells["mean_there"].isna() & cells["profile"].notna()
                      & cells["profile_there"].notna(), EQUAL, states)
    return pd.DataFrame({"table": cells["table"], "method": cells["method"], "column": cells["column"],
                         "here": cells["mean"], "there": cells["mean_there"], "difference": off, "tolerance": allowed,
                         "state": states})
