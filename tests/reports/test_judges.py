"""Every kind of judge, and a rerun's cells, against numbers worked out by hand."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from claiming import LONG, OURS, judged, rerun

from pfedmoap.errors import UserError
from pfedmoap.reports import claims
from pfedmoap.reports.claims import Claim, Evidence, accuracies, agreement, files, printed

# --- judges of accuracies


@dataclass
class Numbers:
    """Evidence of one table whose rows have these accuracies by seed, on its one column and for both its clients."""

    rows: dict[str, list[float]]

    def clients(self, grid: str) -> pd.DataFrame:
        return pd.DataFrame([{"row": row, "column": "set", "seed": seed, "client": client, "accuracy": value}
                             for row, values in self.rows.items() for seed, value in enumerate(values)
                             for client in (0, 1)])


NOISE = np.array([0.3, -0.2, 0.1, -0.4, 0.2, 0.0])


def by_seed(**means: float) -> Numbers:
    return Numbers({row.replace("_", " "): list(mean + NOISE * (place + 1)) for place, (row, mean)
                    in enumerate(means.items())})


@pytest.mark.parametrize(("bounds", "holds"), [
    ({"at_least": 0}, True), ({"at_least": 9}, True), ({"at_least": 12}, False), ({"at_most": 12}, True),
    ({"at_most": 5}, False), ({"at_least": 8, "at_most": 12}, True), ({"at_least": -2, "at_most": 2}, False),
    ({"at_least": 10}, None)])  # fmt: skip
def test_a_contrast_keeps_to_its_bounds(bounds, holds):
    found = accuracies.contrast(by_seed(a=90, b=80), "table1", {"a": 1, "b": -1}, **bounds)
    assert found.holds is holds and found.number == pytest.approx(10)
    assert found.low <= 10 <= found.high and (found.p <= 0.05) == (holds is not None)


def test_a_difference_of_differences():
    numbers = by_seed(a=90, a_private=89, b=80, b_private=60)
    weights = {"a private": 1, "a": -1, "b private": -1, "b": 1}
    found = accuracies.contrast(numbers, "table1", weights, at_least=0)
    assert found.holds and found.number == pytest.approx(19)  # -1 against -20
    with pytest.raises(UserError, match="bound"):
        accuracies.contrast(numbers, "table1", weights)
    with pytest.raises(UserError, match="'c'"):
        accuracies.contrast(numbers, "table1", {"c": 1}, at_least=0)


def test_ahead_of_every_other_and_refuted_by_one():
    assert accuracies.ahead(by_seed(a=90, b=80, c=70), "table1", "a", ["b", "c"]).holds is True
    behind = accuracies.ahead(by_seed(a=80, b=90, c=70), "table1", "a", ["b", "c"])
    assert behind.holds is False and behind.number == pytest.approx(-10) and "nearest" in behind.words
    turns = Numbers({"a": [80, 90] * 3, "b": [90, 80] * 3, "c": [10.0, 11, 12, 13, 14, 15]})
    assert accuracies.ahead(turns, "table1", "a", ["b", "c"]).holds is None


def test_rises_falls_and_levels_off():
    points = ["a", "b", "c", "d", "e"]
    assert accuracies.rises(by_seed(a=10, b=20, c=30, d=40, e=50), "table1", points).holds is True
    assert accuracies.rises(by_seed(a=50, b=40, c=30, d=20, e=10), "table1", points).holds is False
    flat = Numbers({row: [50.0 + (seed * (place + 1)) % 3 for seed in range(6)] for place, row in enumerate(points)})
    assert accuracies.rises(flat, "table1", points).holds is None
    assert accuracies.rises(by_seed(a=10, b=25, c=30, d=31, e=32), "table1", points, levels_off=True).holds is True
    assert accuracies.rises(by_seed(a=10, b=11, c=12, d=30, e=50), "table1", points, levels_off=True).holds is False


def test_an_inner_optimum():
    points = ["a", "b", "c"]
    inner = accuracies.inner_optimum(by_seed(a=50, b=90, c=60), "table1", points)
    assert inner.holds is True and inner.number == pytest.approx(30) and "b" in inner.words
    assert accuracies.inner_optimum(by_seed(a=50, b=60, c=90), "table1", points).holds is False
    turns = Numbers({"a": [10.0] * 6, "b": [80, 90] * 3, "c": [90, 80] * 3})
    assert accuracies.inner_optimum(turns, "table1", points).holds is None


def test_the_best_among_rows():
    numbers = by_seed(a=50, b=90, c=60)
    assert accuracies.best_among(numbers, "table1", ["b"], ["a", "b", "c"]).holds is True
    assert accuracies.best_among(numbers, "table1", ["a", "c"], ["a", "b", "c"]).holds is False
    turns = Numbers({"a": [80, 90] * 3, "b": [90, 80] * 3})
    assert accuracies.best_among(turns, "table1", ["a"], ["a", "b"]).holds is None


def test_near_the_best():
    numbers = by_seed(a=88, b=90, c=60)
    assert accuracies.near_best(numbers, "table1", "a", ["a", "b", "c"], within=5).holds is True
    assert accuracies.near_best(numbers, "table1", "a", ["a", "b", "c"], within=1).holds is False
    assert accuracies.near_best(numbers, "table1", "a", ["a", "b", "c"], within=2).holds is None


def test_ahead_on_all_columns(results):
    evidence = Evidence("quick", results)
    found = accuracies.ahead_on_all(evidence, "table1", OURS)
    assert found.holds is None and "ahead by the test on 1 of 2 columns, behind on 0" in found.words
    assert "nature +20.8" in found.words and "digits -0.2" in found.words
    assert accuracies.ahead_on_all(evidence, "table1", OURS, ["ZS-CLIP"]).holds is True
    assert accuracies.ahead_on_all(evidence, "table1", "CoOp", [OURS]).holds is False


# --- judges of files and of printed cells


def test_cells_within_bounds(results):
    evidence = Evidence("quick", results)
    assert files.cells(evidence, "table1", "mean", at_least=30).holds is True
    below = files.cells(evidence, "table1", "mean", at_least=50)
    assert below.holds is False and below.number == pytest.approx(40)
    assert files.cells(evidence, "table1", "mean", at_least=50, rows=[OURS]).holds is True
    with pytest.raises(UserError, match="mean"):
        files.cells(evidence, "table1", "meen")


def test_a_benchmark_within_bounds():
    evidence = Evidence("long", LONG)
    found = files.benchmark(evidence, "training_step", "speedup", {"precision": "fp32"}, at_least=1)
    assert found.holds is True and "AMD EPYC" in found.words
    assert files.benchmark(evidence, "training_step", "speedup", {"precision": "fp32"}, at_least=1000).holds is False
    with pytest.raises(UserError, match="speedup"):
        files.benchmark(evidence, "training_step", "speed-up")
    with pytest.raises(claims.NotRun, match="make bench"):
        files.benchmark(evidence, "no_such", "speedup")


def test_a_test_of_this_project_is_run_only_when_asked(tmp_path):
    claim = Claim("t", "kit", "a test", "So.", "test", (), {"nodes": ["tests/reports/test_statistics.py::"
                                                                     "test_the_smallest_p_of_three_and_six_seeds"]})
    assert judged(claim, tmp_path).verdict == "not run"
    assert judged(claim, tmp_path, tests=True).verdict == "verified"
    assert judged(replace(claim, given={"nodes": ["tests/no_such_file.py"]}), tmp_path, tests=True).fails


def test_the_papers_printed_cells():
    evidence = Evidence("long", LONG)
    assert printed.printed_contrast(evidence, "table1", {"CoOp": 1}, 70.14, ["Flowers102"]).holds is True
    assert printed.printed_contrast(evidence, "table1", {"CoOp": 1}, 70.24, ["Flowers102"]).holds is False
    ours = "pFedMoAP (lambda=0.5)"
    assert printed.printed_ahead(evidence, "table1", ours, ["CoOp"]).holds is True
    assert printed.printed_ahead(evidence, "table1", "CoOp", [ours]).holds is False
    close = printed.printed_ahead(evidence, "table1", ours, ["pFedPrompt"])  # Food101: +1.13, spreads 0.09 and 1.34
    assert close.holds is None and "pFedPrompt on Food101" in close.words
    rows = ["pFedMoAP (K+1=5)", "pFedMoAP (K+1=30)"]
    assert printed.printed_rises(evidence, "table7", rows, ["Average"]).number == pytest.approx(0.22)
    widths = ["pFedMoAP (d=128)", "pFedMoAP (d=256)"]
    assert printed.printed_best_among(evidence, "table8", widths, 4).holds is True
    assert printed.printed_best_among(evidence, "table8", widths, 5).holds is False  # Food101 is best at 64
    same = [{"table": "table3", "row": "pFedMoAP"}, {"table": "table7", "row": "pFedMoAP (K+1=20)"}]
    assert printed.printed_equal(evidence, same).holds is True
    other = [same[0], {"table": "table7", "row": "pFedMoAP (K+1=5)"}]
    assert printed.printed_equal(evidence, other).holds is False


# --- a rerun


def test_cells_of_a_rerun_are_equal_within_rounding_or_different(results, tmp_path):
    for number, (change, state) in enumerate([(0, "equal"), (0.15, "within rounding"), (9, "different")]):
        again = rerun(results, tmp_path / str(number), change)
        cells = claims.against(results, again)
        assert len(cells) == 6 and (cells["state"] == "equal").sum() == (6 if change == 0 else 5)
        line = cells.query("method == 'CoOp' and column == 'Flowers102'").iloc[0]
        assert line["state"] == state and line["difference"] == pytest.approx(change, abs=1e-3)
        verdict = judged(Claim("r", "kit", "", "", "same", (), {}), results, rerun=again)
        assert verdict.verdict == ("falsified" if state == "different" else "verified")
    assert judged(Claim("r", "kit", "", "", "same", (), {}), results).verdict == "not run"


def test_a_cell_that_the_rerun_lacks_is_different(results, tmp_path):
    again = rerun(results, tmp_path / "again", 0)
    pd.read_csv(again / "table1.csv").iloc[1:].to_csv(again / "table1.csv", index=False)
    assert (claims.against(results, again)["state"] == "different").sum() == 1


def cells(here, there, seeds) -> pd.DataFrame:
    """Two rows of as many cells each, with these spreads."""
    rows = np.arange(len(here)) * 2 // len(here)
    return pd.DataFrame({"table": "table1", "method": rows, "std": here, "std_there": there, "seeds": seeds,
                         "seeds_there": seeds})


def test_the_tolerance_of_a_cell_by_hand():
    found = agreement.tolerance(cells([0.0, 0.0, 3.0, 0.0], [0.0, 0.0, 4.0, 0.0], 6))
    # of the second row: (9 + 16) / 2 with ddof 1, and 0: pooled 7.5; t of 20 degrees of freedom at 1 - 0.05 / 8
    assert found[2] == found[3] == pytest.approx(2.7437 * np.sqrt(2 * 7.5 / 6), rel=1e-3)
    assert found[0] == found[1] == 0.2
    assert agreement.tolerance(cells([np.nan, np.nan], [np.nan, np.nan], 1)).tolist() == [0.2, 0.2]


def test_two_draws_of_the_same_seeds_are_rarely_called_different():
    random, alarms = np.random.default_rng(0), 0
    for _ in range(200):
        first, second = random.normal(50, 6, (2, 30, 6))  # cells x seeds
        allowed = agreement.tolerance(cells(first.std(1), second.std(1), 6))
        alarms += (np.abs(first.mean(1) - second.mean(1)) > allowed).any()
    assert alarms <= 20  # 10 are expected at most; chance alone exceeds 20 once in a thousand
