"""Claims about the paper's own printed cells: arithmetic, which needs no run."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from pfedmoap.errors import UserError
from pfedmoap.reports.claims.evidence import Evidence
from pfedmoap.reports.claims.findings import Finding

PRINTED = 0.005  # cells are printed with two decimals


def printed_ahead(
    evidence: Evidence, table: str, row: str, others: Sequence[str] = (), columns: Sequence[str] = ()
) -> Finding:
    """In the paper's table a row is above the others in every column; open where by less than both printed spreads."""
    printed = _printed(evidence, table, columns)
    others = list(others) or [name for name in printed["mean"].index if not name.startswith("pFedMoAP")]
    lead = printed["mean"].loc[row] - printed["mean"].loc[others]
    spread = printed["std"].loc[row] + printed["std"].loc[others]
    holds = False if (lead < 0).any(axis=None) else None if (lead <= spread).any(axis=None) else True
    least = lead.min()
    above = ", ".join(f"{column} {value:+.2f}" for column, value in least.items())
    words = f"as printed, above the best other by {above}"
    close = (lead <= spread).stack()
    if close.any():
        words += "; by no more than both spreads: " + ", ".join(f"{other} on {on}" for other, on in close[close].index)
    return Finding(holds, words, float(least.min()))


def printed_contrast(
    evidence: Evidence, table: str, rows: Mapping[str, float], is_about: float, columns: Sequence[str] = ()
) -> Finding:
    """A sum over the paper's printed cells, averaged over columns, is what the paper's text says, to its decimals."""
    means = _printed(evidence, table, columns)["mean"].loc[list(rows)]
    number = float((means.T @ np.array(list(rows.values()))).mean())
    decimals = len(str(is_about).partition(".")[2])
    holds = abs(number - is_about) <= 0.5 * 10**-decimals + PRINTED * 2
    return Finding(holds, f"as printed {number:.2f}; the text says {is_about:g}", number)


def printed_best_among(
    evidence: Evidence, table: str, best: Sequence[str], at_least: int, columns: Sequence[str] = ()
) -> Finding:
    """In so many columns of the paper's table one of these rows is the best."""
    means = _printed(evidence, table, columns)["mean"]
    first = means.idxmax()
    outside = first[~first.isin(best)]
    words = "as printed, best by column: " + ", ".join(f"{column} {row}" for column, row in first.items())
    inside = len(first) - len(outside)
    return Finding(inside >= at_least, words, float(inside), unit=f"of {len(first)} columns")


def printed_rises(evidence: Evidence, table: str, rows: Sequence[str], columns: Sequence[str]) -> Finding:
    """In the paper's table the mean over columns rises from the first row to the last, by more than the two spreads."""
    printed = _printed(evidence, table, columns)
    means, spread = printed["mean"].loc[list(rows)].mean(axis=1), printed["std"].loc[[rows[0], rows[-1]]].mean(axis=1)
    rise = float(means.iloc[-1] - means.iloc[0])
    holds = False if rise < -spread.sum() else True if rise > spread.sum() else None
    words = f"as printed {rise:+.2f} from the first to the last; their spreads add up to {spread.sum():.2f}"
    return Finding(holds, words, rise)


def printed_equal(evidence: Evidence, cells_of: Sequence[Mapping[str, str]]) -> Finding:
    """Two rows of two of the paper's tables are printed alike, as they must be if they are the same run."""
    first, second = ({(line.dataset): (line.mean, line.std) for line in evidence.printed(each["table"]).itertuples()
                      if line.method == each["row"]} for each in cells_of)
    shared = first.keys() & second.keys()
    if not shared:
        raise UserError(f"The rows {cells_of} have no column in common.")
    off = max(abs(first[name][0] - second[name][0]) for name in shared)
    return Finding(all(first[name] == second[name] for name in shared),
                   f"{sum(first[name] == second[name] for name in shared)} of {len(shared)} cells are the same", off)


def _printed(evidence: Evidence, table: str, columns: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Printed means and spreads: methods x columns, in the paper's order."""
    printed = evidence.printed(table)
    chosen = list(columns) or list(dict.fromkeys(printed["dataset"]))
    rows = list(dict.fromkeys(printed["method"]))
    return {what: printed.pivot(index="method", columns="dataset", values=what).loc[rows, chosen]
            for what in ("mean", "std")}
