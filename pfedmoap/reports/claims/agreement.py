"""Whether a rerun gives the same tables, cell by cell."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from pfedmoap.errors import UserError
from pfedmoap.experiments import GRIDS

KEY = ["table", "method", "column"]
EQUAL, ROUNDING, DIFFERENT = "equal", "within rounding", "different"
PRINTED = 1e-4  # the files have four decimals
MOVED = 0.2  # points: by so much at most cells moved on another processor where training is stable
ERROR = 0.05  # that any cell is called different by chance


def tolerance(cells: pd.DataFrame) -> pd.Series:
    """How far rounding may move each cell, in points.

    Sums are rounded otherwise on another processor or with another number of threads. Where training is stable, that
    moves a mean by at most `MOVED`. Where it is not (all prompts that clients with other classes share), rounding does
    to a run what another seed would. So two means are within rounding if two draws of seeds could be so far apart:
    Student's t with the spread of both, pooled over a row of a table, at `ERROR` over all cells together (Bonferroni).

    Args:
        cells: a line per cell with table, method, std and std_there (population, over the seeds), seeds and
            seeds_there.
    """
    seeds = cells[["seeds", "seeds_there"]].min(axis=1).clip(lower=1)
    freedom = 2 * seeds - 2
    variance = (cells["std"] ** 2 + cells["std_there"] ** 2) / 2 * seeds / (seeds - 1).clip(lower=1)
    row = [cells["table"], cells["method"]]
    pooled, freedom = variance.groupby(row).transform("mean"), freedom.groupby(row).transform("sum").clip(lower=1)
    wide = stats.t.ppf(1 - ERROR / (2 * max(len(cells), 1)), freedom) * np.sqrt(2 * pooled / seeds)
    return pd.Series(np.maximum(MOVED, np.nan_to_num(wide)), index=cells.index)


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
    found = [pd.read_csv(results / name).merge(pd.read_csv(rerun / name), how="outer", on=KEY, suffixes=("", "_there"))
             for name in (f"{grid}.csv" for grid in grids or GRIDS)
             if (results / name).is_file() and (rerun / name).is_file()]
    if not found:
        return pd.DataFrame(columns=[*KEY, "here", "there", "difference", "tolerance", "state"])
    cells = pd.concat(found, ignore_index=True)
    off = cells["mean_there"] - cells["mean"]
    allowed = tolerance(cells)
    states = np.where(off.abs() <= PRINTED, EQUAL, np.where(off.abs() <= allowed, ROUNDING, DIFFERENT))
    # NaN: a cell without numbers, in one folder or in both
    states = np.where(cells["mean"].isna() & cells["mean_there"].isna() & cells["profile"].notna()
                      & cells["profile_there"].notna(), EQUAL, states)
    return cells[KEY].assign(here=cells["mean"], there=cells["mean_there"], difference=off, tolerance=allowed,
                             state=states)
