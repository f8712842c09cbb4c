"""Claims about the accuracies of a table, judged by seed.

Such a claim holds, or fails, only if the exact sign-flip test over seeds says so (p at most 0.05, on the mean over the
columns); else it is open. With fewer than six seeds it always is.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from pfedmoap.errors import UserError, refuse_unknown
from pfedmoap.methods import PFedMoAP
from pfedmoap.reports.claims.evidence import Evidence
from pfedmoap.reports.claims.findings import Finding
from pfedmoap.reports.statistics import LEVEL, against_best, by_seed, compare, interval, sign_flip


def ahead(
    evidence: Evidence, grid: str, row: str, others: Sequence[str] = (), columns: Sequence[str] | None = None
) -> Finding:
    """A row is ahead of each of the others, on the mean over the columns; by default of all that are not pFedMoAP."""
    each = evidence.clients(grid)
    others = _known(each, [row, *(others or _rivals(evidence, grid))])[1:]
    found = compare(each, row, others, columns)
    nearest = found["difference"].idxmin()
    line = found.loc[nearest]
    told = found["p_corrected"] <= LEVEL
    holds = _decided(told & (found["difference"] > 0), told & (found["difference"] < 0))
    words = (f"{line['difference']:+.1f} points against {nearest}, the nearest of {len(found)}; better than it with "
             f"{line['ahead']:.0f} of {line['seeds']:.0f} seeds")
    return Finding(holds, words, line["difference"], low=line["low"], high=line["high"], p=line["p_corrected"])


def ahead_on_all(evidence: Evidence, grid: str, row: str, others: Sequence[str] = ()) -> Finding:
    """A row is ahead of each of the others on every column; one column on which another is ahead of it refutes that."""
    each = evidence.clients(grid)
    others = _known(each, [row, *(others or _rivals(evidence, grid))])[1:]
    headings = {column.title: heading for column, heading in
                zip(evidence.grid(grid).columns, evidence.grid(grid).headings(), strict=True)}
    leads, p, told, behind = {}, [], [], []
    for column in dict.fromkeys(each["column"]):
        means = by_seed(each, [column])
        differences = means.loc[row] - means.loc[others]
        tests = sign_flip(differences.to_numpy().T)
        mean = differences.mean(axis=1)
        leads[headings[column]] = mean.min()
        p.append(tests[mean.argmin()])
        told.append(bool(((tests <= LEVEL) & (mean > 0)).all()))
        behind.append(bool(((tests <= LEVEL) & (mean < 0)).any()))
    holds = _decided(pd.Series(told), pd.Series(behind))
    words = (f"ahead by the test on {sum(told)} of {len(told)} columns, behind on {sum(behind)}; its mean against that "
             f"of the best other: " + ", ".join(f"{column} {lead:+.1f}" for column, lead in leads.items()))
    return Finding(holds, words, min(leads.values()), p=max(p))


def contrast(
    evidence: Evidence, grid: str, rows: Mapping[str, float], at_least: float | None = None,
    at_most: float | None = None, columns: Sequence[str] | None = None,
) -> Finding:  # fmt: skip
    """A weighted sum of rows keeps to its bounds: a difference, one of differences; with both bounds, equivalence."""
    each = evidence.clients(grid)
    _known(each, rows)
    if at_least is None and at_most is None:
        raise UserError("A contrast needs a bound: at_least, at_most, or both.")
    sums = (by_seed(each, columns).loc[list(rows)].T @ np.array(list(rows.values()))).to_numpy()  # (seeds,)
    beyond = [sign * (sums - bound) for sign, bound in ((1, at_least), (-1, at_most)) if bound is not None]
    p = [float(sign_flip(values[:, None])[0]) for values in beyond]
    kept = [values.mean() > 0 for values in beyond]
    holds = True if all(kept) and max(p) <= LEVEL else (
        False if any(not fine and value <= LEVEL for fine, value in zip(kept, p, strict=True)) else None)
    low, high = interval(each, rows, columns)
    bounds = " and ".join(f"at {word} {bound:g}" for word, bound in (("least", at_least), ("most", at_most))
                          if bound is not None)
    words = f"{sums.mean():+.1f} points ({sums.min():+.1f} to {sums.max():+.1f} by seed), to be {bounds}"
    return Finding(holds, words, float(sums.mean()), low=low, high=high, p=max(p))


def rises(evidence: Evidence, grid: str, rows: Sequence[str], levels_off: bool = False) -> Finding:
    """Accuracy rises over the rows in their order, by the slope against their place.

    With `levels_off` also less in the second half than in the first.
    """
    each = evidence.clients(grid)
    means = by_seed(each).loc[_known(each, rows)].to_numpy()  # (points, seeds)
    places = np.arange(len(rows)) - (len(rows) - 1) / 2
    slopes = places @ means / (places**2).sum()
    p = float(sign_flip(slopes[:, None])[0])
    holds = None if p > LEVEL else bool(slopes.mean() > 0)
    average = means.mean(1)
    half = len(rows) // 2
    if holds and levels_off:
        holds = bool(average[-1] - average[half] < average[half] - average[0])
    low, high = interval(each, {rows[-1]: 1, rows[0]: -1})
    words = (f"from {average[0]:.1f} % at {rows[0]} to {average[-1]:.1f} % at {rows[-1]}; slope {slopes.mean():+.2f} "
             f"points a step ({(slopes > 0).sum()} of {len(slopes)} seeds rise)")
    return Finding(holds, words, float(average[-1] - average[0]), low=low, high=high, p=p)


def inner_optimum(evidence: Evidence, grid: str, rows: Sequence[str]) -> Finding:
    """Some row between the first and the last is better than both; that an end is better than all others refutes it."""
    each = evidence.clients(grid)
    means = by_seed(each).loc[_known(each, rows)].mean(axis=1)
    best, ends = means[rows[1:-1]].idxmax(), [rows[0], rows[-1]]
    lead = compare(each, best, ends)
    told = lead["p_corrected"] <= LEVEL
    holds = True if (told & (lead["difference"] > 0)).all() else (
        False if means.idxmax() in ends and (against_best(each, rows).drop(means.idxmax()) <= LEVEL).all() else None)
    line = lead.loc[lead["difference"].idxmin()]
    words = f"best between the ends is {best} ({means[best]:.1f} %): " + ", ".join(
        f"{row['difference']:+.1f} points against {end}" for end, row in lead.iterrows())
    return Finding(holds, words, line["difference"], low=line["low"], high=line["high"], p=lead["p_corrected"].max())


def best_among(evidence: Evidence, grid: str, best: Sequence[str], rows: Sequence[str]) -> Finding:
    """One of the rows `best` is better than every row that is not; that one of those is better than all refutes it."""
    each = evidence.clients(grid)
    means = by_seed(each).loc[_known(each, rows)].mean(axis=1)
    others = [row for row in rows if row not in best]
    chosen, rival = means[list(best)].idxmax(), means[others].idxmax()
    p = against_best(each, rows)
    inside, outside = p[others], p[list(best)]
    first = means.idxmax()
    if first in best:
        holds, worst = (True if (inside <= LEVEL).all() else None), inside.max()
    else:
        holds, worst = (False if (outside <= LEVEL).all() else None), outside.max()
    low, high = interval(each, {chosen: 1, rival: -1})
    words = (f"{chosen} {means[chosen]:.1f} % against {rival} {means[rival]:.1f} %, the best of the others")
    return Finding(holds, words, float(means[chosen] - means[rival]), low=low, high=high, p=float(worst))


def near_best(evidence: Evidence, grid: str, row: str, rows: Sequence[str], within: float) -> Finding:
    """No other row is better than this one by so many points."""
    each = evidence.clients(grid)
    others = [other for other in _known(each, rows) if other != row]
    means = by_seed(each)
    gaps = (means.loc[others] - means.loc[row])  # (others, seeds)
    p = sign_flip((gaps - within).to_numpy().T)
    gap = gaps.mean(axis=1)
    worst = gap.idxmax()
    holds = _decided((gap < within) & (p <= LEVEL), (gap > within) & (p <= LEVEL))
    low, high = interval(each, {worst: 1, row: -1})
    words = f"the best other, {worst}, is {gap[worst]:+.1f} points from {row}; allowed are {within:g}"
    return Finding(holds, words, float(gap[worst]), low=low, high=high, p=float(p[list(gap.index).index(worst)]))


def _decided(held: pd.Series, refuted: pd.Series) -> bool | None:
    """Of several comparisons that all have to hold: one that is refuted refutes the claim."""
    return True if held.all() else False if refuted.any() else None


def _known(each: pd.DataFrame, rows: Sequence[str] | Mapping[str, float]) -> list[str]:
    refuse_unknown(rows, list(dict.fromkeys(each["row"])), "row")
    return list(rows)


def _rivals(evidence: Evidence, grid: str) -> list[str]:
    return [row.title for row in evidence.grid(grid).compared if not isinstance(row.method, PFedMoAP)]
