"""Tests and intervals: against hand-worked numbers, and against data that were drawn to have an effect, or none."""

import numpy as np
import pandas as pd
import pytest

from pfedmoap.reports import statistics


def frame(values: dict[str, np.ndarray]) -> pd.DataFrame:
    """Row -> (seeds, columns, clients) as the lines of `numbers.clients`."""
    return pd.DataFrame([
        {"row": row, "column": f"set {column}", "seed": seed, "client": client, "accuracy": cells[seed, column, client]}
        for row, cells in values.items() for seed, column, client in np.ndindex(cells.shape)])


def drawn(random, rows: int, seeds: int = 6, effect: float = 0.0) -> pd.DataFrame:
    """Rows with noise of the seed in common, of their own by seed and set, and by client; the first has an effect."""
    shared = random.normal(0, 3, (seeds, 1, 1))
    return frame({f"row {row}": 80 + shared + random.normal(0, 2, (seeds, 2, 1)) + random.normal(0, 3, (seeds, 2, 4))
                  + effect * (row == 0) for row in range(rows)})


def test_the_smallest_p_of_three_and_six_seeds():
    assert statistics.smallest_p(3) == 0.25 and statistics.smallest_p(6) == 0.03125 and statistics.smallest_p(1) == 1
    assert not statistics.can_separate(5) and statistics.can_separate(6)


def test_sign_flips_by_hand():
    # Signs of (1, 2, 3): sums 6, 4, 2, 0, 0, -2, -4, -6. Of (1, 2, -3): the same, with 0 observed.
    p = statistics.sign_flip(np.array([[1.0, 1.0], [2.0, 2.0], [3.0, -3.0]]))
    assert p.tolist() == [0.25, 1.0]
    assert statistics.sign_flip(np.array([[1.0], [2.0], [-0.5]])).tolist() == [0.5]  # 2.5: 3.5, 2.5 and their negatives
    assert statistics.sign_flip(np.zeros((6, 1))).tolist() == [1.0]


def test_one_seed_says_nothing():
    each = frame({"a": np.full((1, 2, 4), 90.0), "b": np.full((1, 2, 4), 50.0)})
    assert statistics.sign_flip(np.array([[40.0, -1.0]])).tolist() == [1.0, 1.0]
    assert statistics.compare(each, "a", ["b"])["p_corrected"].tolist() == [1.0]
    assert statistics.against_best(each, ["a", "b"]).tolist() == [1.0, 1.0]
    assert statistics.alike(each, ["a", "b"]) == [("a", "b")]


def test_holm_by_hand():
    assert statistics.holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm(np.array([0.9, 0.5])).tolist() == [1.0, 1.0]


def test_westfall_young_of_one_comparison_and_of_copies_is_the_plain_test():
    differences = np.random.default_rng(0).normal(1, 2, (6, 1))
    plain = statistics.sign_flip(differences)
    assert statistics.westfall_young(differences) == pytest.approx(plain)
    assert statistics.westfall_young(np.repeat(differences, 5, axis=1)) == pytest.approx(np.repeat(plain, 5))


def test_westfall_young_lies_between_no_correction_and_bonferronis():
    differences = np.random.default_rng(1).normal(0.5, 2, (8, 6))
    plain, corrected = statistics.sign_flip(differences), statistics.westfall_young(differences)
    assert (corrected >= plain - 1e-12).all() and (corrected <= 6 * plain + 1e-12).all()
    assert (corrected > plain + 1e-3).any()


def test_seeds_are_the_unit_and_clients_are_paired():
    ours = np.array([[[90.0, 70.0]], [[80.0, 60.0]]])  # 80 and 70
    theirs = np.array([[[70.0, 60.0]], [[60.0, 60.0]]])  # 65 and 60
    each = frame({"ours": ours, "theirs": theirs})
    assert statistics.by_seed(each).loc["ours"].tolist() == [80, 70]
    found = statistics.compare(each, "ours", ["theirs"]).loc["theirs"]
    assert found["difference"] == 12.5 and found["p"] == 0.5 and found["ahead"] == found["seeds"] == 2
    shuffled = each.sample(frac=1, random_state=0)
    again = statistics.compare(shuffled, "ours", ["theirs"])
    assert again["difference"].tolist() == [12.5]
    assert again[["low", "high"]].to_numpy() == pytest.approx(found[["low", "high"]].to_numpy(float)[None])


def test_a_row_that_is_always_two_points_ahead_has_an_interval_of_no_width():
    cells = np.random.default_rng(0).uniform(50, 90, (6, 2, 4))
    each = frame({"a": cells + 2, "b": cells})
    assert statistics.interval(each, {"a": 1, "b": -1}) == pytest.approx((2, 2))
    low, high = statistics.interval(each, {"a": 1})
    assert low < statistics.by_seed(each).loc["a"].mean() < high and high - low > 1


def test_under_a_null_at_most_one_table_in_twenty_has_a_false_alarm():
    random, tables = np.random.default_rng(0), 100
    alarms = {"leads": 0, "bold": 0, "ranks": 0}
    for _ in range(tables):
        each = drawn(random, rows=5)
        rows = [f"row {row}" for row in range(5)]
        means = statistics.by_seed(each)
        alarms["leads"] += (statistics.westfall_young((means.iloc[0] - means.iloc[1:]).to_numpy().T) <= 0.05).any()
        alarms["bold"] += (statistics.against_best(each, rows, ["set 0"]) <= 0.05).sum() == len(rows) - 1
        alarms["ranks"] += statistics.alike(each, rows) != [tuple(statistics.ranks(each, rows).mean(axis=1)
                                                                  .sort_values(kind="stable").index)]
    assert max(alarms.values()) <= 12, alarms  # 5 are expected at most; chance alone exceeds 12 once in a thousand


def test_two_equal_methods_are_rarely_told_apart():
    random = np.random.default_rng(1)
    alarms = sum((statistics.against_best(drawn(random, 2), ["row 0", "row 1"], ["set 0"]) <= 0.05).any()
                 for _ in range(200))
    assert alarms <= 20


def test_a_planted_effect_is_found():
    random, found = np.random.default_rng(0), 0
    for _ in range(20):
        each = drawn(random, rows=5, effect=12)
        lead = statistics.compare(each, "row 0", [f"row {row}" for row in range(1, 5)])
        found += (lead["p_corrected"] <= 0.05).all() and (lead["low"] > 0).all()
    assert found >= 18


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(60):
        low, high = statistics.interval(drawn(random, 2, effect=3), {"row 0": 1, "row 1": -1})
        inside += low <= 3 <= high
    assert 51 <= inside  # 57 are expected; the clients' own share makes it a little wide


def test_three_seeds_separate_nothing():
    each = drawn(np.random.default_rng(0), rows=3, seeds=3, effect=50)
    assert (statistics.against_best(each, ["row 0", "row 1", "row 2"], ["set 0"]) > 0.05).all()
    assert len(statistics.alike(each, ["row 0", "row 1", "row 2"])) == 1


def test_groups_of_ranks():
    base = np.random.default_rng(0).normal(0, 0.1, (6, 2, 1))
    swing = np.array([1, -2, 2, -1, 3, -3.0])[:, None, None]  # a and b change places with the seed
    each = frame({"a": 90 + base + swing, "c": 50 + base, "b": 90 + base - swing})
    assert statistics.ranks(each, ["a", "b", "c"]).mean(axis=1).tolist() == [1.5, 1.5, 3]
    assert statistics.alike(each, ["a", "b", "c"]) == [("a", "b")]
    assert statistics.alike(each, ["a", "c"]) == []
