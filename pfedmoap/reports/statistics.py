"""Whether a difference means anything: exact tests over seeds, corrected for their number, and intervals.

All look at the frame of `numbers.clients`: one line per row, column, seed and client. The unit is the seed. The clients
of a seed share its prompts and its pool, and the columns of a table share the seed and often images, so that neither
are independent witnesses: a test over seeds x columns would count one witness several times.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.05
RESAMPLES = 2000


def smallest_p(seeds: int) -> float:
    """The smallest two-sided p of a paired sign-flip test over so many seeds: 0.25 for 3, 0.031 for 6."""
    return min(1.0, 2.0 ** (1 - seeds))


def can_separate(seeds: int) -> bool:
    """Whether so many seeds can tell two methods apart at all: from six on."""
    return smallest_p(seeds) <= LEVEL


def by_seed(each: pd.DataFrame, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Mean over columns of the mean over clients: a line per row, in the frame's order, and a column per seed.

    Args:
        each: see above.
        columns: those to average; None: all.
    """
    chosen = each if columns is None else each[each["column"].isin(columns)]
    cells = chosen.groupby(["row", "seed", "column"], sort=False)["accuracy"].mean()
    return cells.groupby(["row", "seed"], sort=False).mean().unstack("seed").dropna(axis=1)


def sign_flip(differences: np.ndarray) -> np.ndarray:
    """Two-sided p of the exact paired permutation test: every pattern of signs is gone through.

    Args:
        differences: (n, k), of k comparisons on the same n seeds.

    Returns:
        (k,); 1 where there is only one seed.
    """
    if len(differences) < 2:
        return np.ones(differences.shape[1])
    return np.atleast_1d(_null(differences).pvalue)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction of k p-values: any dependence is allowed (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    corrected = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    return np.minimum(corrected, 1)[np.argsort(order)]


def westfall_young(differences: np.ndarray) -> np.ndarray:
    """The step-down max-T correction (Westfall and Young 1993): as strict as Holm's, but it uses what they share.

    With six seeds Holm's can separate nothing once there are two comparisons. This one flips the sign of a seed in all
    comparisons at once, and holds each against the largest of those that are not more extreme.

    Args:
        differences: (n, k).

    Returns:
        (k,) corrected two-sided p.
    """
    if len(differences) < 2:
        return np.ones(differences.shape[1])
    scale = np.sqrt((differences**2).sum(0))
    scale[scale == 0] = 1.0
    null = np.abs(_null(differences).null_distribution.reshape(-1, differences.shape[1])) * len(differences) / scale
    observed = np.abs(differences.sum(0)) / scale  # a monotone function of |t|
    order = np.argsort(-observed, kind="stable")
    p = np.empty(len(order))
    for place, at in enumerate(order):
        largest = null[:, order[place:]].max(1)
        p[at] = (largest >= observed[at] - 1e-9).mean()
    p[order] = np.maximum.accumulate(p[order])
    return p


def _null(differences: np.ndarray):
    return stats.permutation_test((differences,), lambda sample, axis: sample.mean(axis), vectorized=True,
                                  permutation_type="samples", n_resamples=np.inf, axis=0)


def interval(
    each: pd.DataFrame, weights: Mapping[str, float], columns: Sequence[str] | None = None, level: float = 0.95
) -> tuple[float, float]:
    """The confidence interval of a weighted sum of rows in points: of a row, a difference, a difference of differences.

    Seeds are resampled, and within each the clients, which are paired: they own the same images in all rows. The
    percentiles are those of the expanded percentile interval (Hesterberg 2015), which is to a small number of seeds
    what Student's t is to the normal. Of one seed there is none (NaN).
    """
    chosen = each if columns is None else each[each["column"].isin(columns)]
    by_row = chosen[chosen["row"].isin(list(weights))].set_index(["seed", "column", "client", "row"])["accuracy"]
    values = by_row.unstack("row")[list(weights)] @ np.array(list(weights.values()))
    seeds = sorted(set(values.index.get_level_values("seed")))
    if len(seeds) < 2:
        return float("nan"), float("nan")
    random = np.random.default_rng(0)
    means = np.array([_resampled([cell.to_numpy() for _, cell in values[seed].groupby(level="column")], len(seeds),
                                 random) for seed in seeds])  # (seeds, resamples, places)
    drawn = random.integers(len(seeds), size=means.shape[1:])
    totals = np.take_along_axis(means, drawn[None], axis=0)[0].mean(1)
    tail = stats.norm.cdf(stats.t.ppf((1 - level) / 2, len(seeds) - 1) * np.sqrt(len(seeds) / (len(seeds) - 1)))
    low, high = np.quantile(totals, [tail, 1 - tail])
    return float(low), float(high)


def _resampled(cells: Sequence[np.ndarray], places: int, random: np.random.Generator) -> np.ndarray:
    """(resamples, places): means over the columns of a seed, each of as many clients, drawn again."""
    drawn = [cell[random.integers(len(cell), size=(RESAMPLES, places, len(cell)))].mean(2) for cell in cells]
    return np.mean(drawn, axis=0)


def compare(
    each: pd.DataFrame, row: str, others: Sequence[str], columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """A row against others, by seed: one line per other, in their order.

    Returns:
        Columns difference (points), low and high (95 %), p (exact sign-flip test), p_corrected (Westfall and Young's,
        over these comparisons), p_holm, and seeds with a higher accuracy (of how many).
    """
    means = by_seed(each, columns)
    differences = (means.loc[row] - means.loc[list(others)]).to_numpy().T  # (seeds, others)
    limits = [interval(each, {row: 1, other: -1}, columns) for other in others]
    p = sign_flip(differences)
    return pd.DataFrame(
        {"difference": differences.mean(0), "low": [low for low, _ in limits], "high": [high for _, high in limits],
         "p": p, "p_corrected": westfall_young(differences), "p_holm": holm(p), "ahead": (differences > 0).sum(0),
         "seeds": len(differences)}, index=list(others))


def against_best(each: pd.DataFrame, rows: Sequence[str], columns: Sequence[str] | None = None) -> pd.Series:
    """Of every row, p of the test against the row with the highest mean over the columns; 1 of that row itself.

    The best is better than all others where all of these are at most `LEVEL`: as every one has to be, no correction for
    their number is needed (an intersection-union test).
    """
    means = by_seed(each, columns).loc[list(rows)]
    best = means.mean(axis=1).idxmax()
    p = sign_flip((means.loc[best] - means).to_numpy().T)
    return pd.Series(p, index=means.index).where(means.index != best, 1.0)


def ranks(each: pd.DataFrame, rows: Sequence[str]) -> pd.DataFrame:
    """Ranks of rows (1: highest accuracy; equal ones share the mean), by seed: the mean over the columns."""
    cells = each[each["row"].isin(rows)].groupby(["column", "seed", "row"], sort=False)["accuracy"].mean()
    places = cells.groupby(["column", "seed"], sort=False).rank(ascending=False)
    return places.groupby(["row", "seed"]).mean().unstack("seed").loc[list(rows)].dropna(axis=1)


def alike(each: pd.DataFrame, rows: Sequence[str]) -> list[tuple[str, ...]]:
    """Rows in the order of their mean ranks, in the largest groups of neighbours that cannot be told apart.

    Two can if their means over the columns differ by the exact test over seeds, corrected over all pairs of rows
    (`westfall_young`).
    """
    order = list(ranks(each, rows).mean(axis=1).sort_values(kind="stable").index)
    pairs = list(combinations(order, 2))
    if not pairs:
        return []
    means = by_seed(each)
    p = westfall_young(np.array([means.loc[a] - means.loc[b] for a, b in pairs]).T)
    apart = {pair for pair, value in zip(pairs, p, strict=True) if value <= LEVEL}
    groups: list[tuple[str, ...]] = []
    for first in range(len(order)):
        last = first
        while last + 1 < len(order) and not any((row, order[last + 1]) in apart for row in order[first : last + 1]):
            last += 1
        group = tuple(order[first : last + 1])
        if len(group) > 1 and not (groups and set(group) <= set(groups[-1])):
            groups.append(group)
    return groups
