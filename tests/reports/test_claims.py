"""Claims: the ledger, every kind of judge against numbers worked out by hand, and what must flip a verdict."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reporting import make_grid, make_store

from pfedmoap.commands.app import main
from pfedmoap.errors import UserError
from pfedmoap.experiments import GRIDS, Place, Row, Store, run_all
from pfedmoap.methods import ZeroShot, ZeroShotOwnClasses
from pfedmoap.reports import claims, page, tables
from pfedmoap.reports.claims import Claim, Evidence, accuracies, agreement, files, printed
from pfedmoap.system import ROOT, paths

OURS = "pFedMoAP (λ = 0.5)"
LONG = ROOT / "results" / "long"
AHEAD_OF_COOP = Claim("ahead", "kit", "a test", "It is ahead of CoOp.", "contrast", ("quick",),
                      {"grid": "table1", "rows": {OURS: 1, "CoOp": -1}, "at_least": 0})
AGREES = Claim("agrees", "kit", "a test", "The files agree.", "agrees", (), {"grids": ["table1"]})


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder with one table of six seeds (`SIX_SEEDS`), and its records."""
    return write_results(tmp_path, monkeypatch)


def write_results(folder, monkeypatch, seeds=range(1, 7), profile="quick"):
    def build(profile, seeds=seeds):
        """Table 1: made by hand."""
        return make_grid(profile, seeds)

    monkeypatch.setitem(GRIDS, "table1", build)
    grid = make_grid(profile, seeds)
    tables.write_table(grid, make_store(folder / "records", grid), folder)
    return folder


def judged(claim, results, profile="quick", **more) -> claims.Verdict:
    (verdict,) = claims.judge([claim], Evidence(profile, results, **more), progress=False)
    return verdict


# --- the ledger


def test_the_committed_ledger():
    ledger = claims.read_ledger()
    assert len(ledger) >= 40 and len({claim.id for claim in ledger}) == len(ledger)
    assert {claim.by for claim in ledger} == {"paper", "kit"}
    of_tables = {claim.given.get("grid") for claim in ledger if claim.by == "paper"}
    assert set(GRIDS) <= of_tables, "every table and figure of the paper has a claim"
    assert claims.read_ledger(only=["experts-help"])[0].id == "experts-help"
    with pytest.raises(UserError, match="experts-help"):
        claims.read_ledger(only=["expert-help"])


@pytest.mark.parametrize(("change", "complaint"), [
    ({"kind": "aheed"}, "ahead"), ({"by": "papers"}, "paper"), ({"profiles": ["lang"]}, "long"),
    ({"rowz": "CoOp"}, "rowz"), ({"says": None}, "says"), ({"row": None}, "row")])  # fmt: skip
def test_an_entry_that_cannot_be_understood_is_refused(tmp_path, change, complaint):
    entry = {"id": "x", "by": "paper", "source": "here", "says": "So.", "kind": "ahead", "grid": "table1", "row": "a"}
    lines = [f"{name} = {json.dumps(value)}" for name, value in (entry | change).items() if value is not None]
    path = tmp_path / "claims.toml"
    path.write_text("[[claim]]\n" + "\n".join(lines))
    with pytest.raises(UserError, match=complaint):
        claims.read_ledger(path)
    path.write_text("[[claim]]\nid = 'x'\nby = 'kit'\nsource = ''\nsays = ''\nkind = 'same'\n" * 2)
    with pytest.raises(UserError, match="several claims named x"):
        claims.read_ledger(path)


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


# --- verdicts, and what flips them


def test_verdicts_of_the_papers_claims_and_of_this_kits(results, tmp_path, monkeypatch):
    assert judged(AHEAD_OF_COOP, results).verdict == "verified"
    of_the_paper = replace(AHEAD_OF_COOP, by="paper", profiles=("quick", "paper"))
    toy = judged(of_the_paper, results)
    assert (toy.verdict, toy.here, toy.shown) == ("toy", "holds", "toy: holds") and not toy.fails
    assert judged(replace(AHEAD_OF_COOP, profiles=("paper",)), results).verdict == "not run"
    real = write_results(tmp_path / "real", monkeypatch, profile="paper")
    assert judged(of_the_paper, real, "paper").verdict == "verified"
    against_coop = replace(AHEAD_OF_COOP, given=AHEAD_OF_COOP.given | {"rows": {"CoOp": 1, OURS: -1}})
    assert judged(against_coop, results).verdict == "falsified" and judged(against_coop, results).fails


def test_two_seeds_decide_nothing_and_a_kits_claim_that_is_open_fails(tmp_path, monkeypatch):
    results = write_results(tmp_path, monkeypatch, seeds=(1, 2))
    verdict = judged(AHEAD_OF_COOP, results)
    assert verdict.verdict == "inconclusive" and verdict.here == "open" and verdict.fails


def test_a_table_of_other_runs_or_none_is_not_run(results, monkeypatch, tmp_path):
    monkeypatch.setitem(GRIDS, "table1", lambda profile, seeds=None: make_grid(profile, range(1, 7), rounds=7))
    verdict = judged(AHEAD_OF_COOP, results)
    assert verdict.verdict == "not run" and "other runs than its grid has now" in verdict.words and not verdict.fails
    assert "pfedmoap reproduce table1" in judged(AHEAD_OF_COOP, tmp_path / "empty").words


def test_a_corrupted_record_flips_verdicts(results):
    assert judged(AGREES, results).verdict == "verified"
    store, grid = Store(results / "records"), make_grid(seeds=range(1, 7))
    for item in grid.cells[OURS, "Flowers102"]:
        record = store.get(item)
        record["rounds"][-1]["accuracies"] = [0.1, 0.1]
        store.put(item, record)
    assert judged(AHEAD_OF_COOP, results).verdict == "falsified"
    wrong = judged(AGREES, results)
    assert wrong.verdict == "falsified" and f"table1 {OURS} / Flowers102" in wrong.words and wrong.fails


def test_one_record_of_one_seed_is_enough_for_the_files_to_disagree(results):
    store, grid = Store(results / "records"), make_grid(seeds=range(1, 7))
    item = grid.cells["CoOp", "DTD"][3]
    record = store.get(item)
    record["rounds"][-1]["accuracies"][1] += 0.01
    store.put(item, record)
    assert judged(AGREES, results).verdict == "falsified"


@pytest.mark.parametrize("name", ["table1.csv", "table1_clients.csv", "table1.json"])
def test_one_changed_cell_of_any_file_is_found(results, name):
    path = results / name
    text = path.read_text()
    for old, new in (("92.5000", "93.5000"), ("92.50 ±", "93.50 ±"), ("96.0000", "97.0000")):
        if old in text:
            path.write_text(text.replace(old, new, 1))
            break
    assert path.read_text() != text
    assert judged(AGREES, results).verdict == "falsified"


class ForeignClasses(ZeroShotOwnClasses):
    """With a planted bug: a client is told which classes its neighbour owns."""

    def tested(self, download, personal, client, context):
        return super().tested(download, personal, client, context)

    def fixed(self, model, downloads, context, cached=None):
        return {name: tensor.roll(1, dims=-1) for name, tensor in
                super().fixed(model, downloads, context, cached).items()}


def test_a_method_with_a_planted_bug_flips_a_verdict(tmp_path, monkeypatch):
    def verdict(method, folder):
        rows = (Row("ZS-CLIP", ZeroShot()), Row("told", method))

        def build(profile, seeds=range(1, 7)):
            return make_grid(profile, seeds, rows=rows)

        monkeypatch.setitem(GRIDS, "table1", build)
        store = Store(folder / "records")
        run_all(build("quick"), Place(cache=paths.cache_dir()), store=store, jobs=1, progress=False)
        tables.write_table(build("quick"), store, folder)
        given = {"grid": "table1", "rows": {"told": 1, "ZS-CLIP": -1}, "at_least": 0}
        return judged(replace(AHEAD_OF_COOP, given=given), folder)

    assert verdict(ZeroShotOwnClasses(), tmp_path / "right").verdict == "verified"
    assert verdict(ForeignClasses(), tmp_path / "wrong").verdict == "falsified"


# --- a rerun


def rerun(results, folder, change) -> Path:
    """The same tables with the CSV's cell of CoOp on Flowers102 changed by so many points."""
    folder.mkdir()
    table = pd.read_csv(results / "table1.csv")
    table.loc[(table["method"] == "CoOp") & (table["column"] == "Flowers102"), "mean"] += change
    table.to_csv(folder / "table1.csv", index=False)
    return folder


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


def test_the_tolerance_of_a_cell_by_hand():
    seeds = pd.Series([6, 6, 1])
    found = agreement.tolerance(pd.Series([0.0, 3.0, np.nan]), pd.Series([0.0, 4.0, np.nan]), seeds)
    # (9 + 16) / 2 with ddof 1, t of 10 degrees of freedom at 1 - 0.05 / 6
    assert found[1] == pytest.approx(2.8701 * np.sqrt(2 * 12.5 * 6 / 5 / 6), rel=1e-3)
    assert found[0] == found[2] == 0.2


def test_two_draws_of_the_same_seeds_are_rarely_called_different():
    random, alarms = np.random.default_rng(0), 0
    for _ in range(200):
        first, second = random.normal(50, 6, (2, 30, 6))  # cells x seeds
        allowed = agreement.tolerance(pd.Series(first.std(1)), pd.Series(second.std(1)), pd.Series([6] * 30))
        alarms += (np.abs(first.mean(1) - second.mean(1)) > allowed).any()
    assert alarms <= 20  # 10 are expected at most; chance alone exceeds 20 once in a thousand


# --- files, page and command


def test_verdicts_are_written_and_read_again(results):
    verdicts = claims.judge([AHEAD_OF_COOP, AGREES], Evidence("quick", results), progress=False)
    path = claims.write_verdicts(verdicts, results)
    first = path.read_bytes()
    claims.write_verdicts(claims.judge([AHEAD_OF_COOP, AGREES], Evidence("quick", results), progress=False), results)
    assert path.read_bytes() == first and claims.read_verdicts(results) == verdicts
    text, overview = page.build("quick", results, results), page.overview("quick", results, results)
    for shown in (text, overview):
        assert "It is ahead of CoOp." in shown and "verified" in shown and "0.031" in shown
    (results / "claims.json").unlink()
    assert claims.read_verdicts(results) == [] and "It is ahead" not in page.build("quick", results, results)


def test_the_committed_verdicts_are_those_of_the_committed_results():
    ledger = [claim for claim in claims.read_ledger() if claim.kind not in ("test", "same")]
    again = {verdict.id: verdict for verdict in claims.judge(ledger, Evidence("long", LONG), progress=False)}
    committed = {verdict.id: verdict for verdict in claims.read_verdicts(LONG) if verdict.id in again}
    shown, now = ({name: one.shown for name, one in each.items()} for each in (committed, again))
    assert shown == now, "pfedmoap verify, and commit results/long/claims.json"
    for what in ("number", "low", "high", "p"):
        shown, now = ([getattr(one, what) or 0.0 for one in each.values()] for each in (committed, again))
        assert shown == pytest.approx(now, rel=0.01)
    assert [verdict.id for verdict in again.values() if verdict.fails] == []


def command(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(["verify", *arguments])
    out = capsys.readouterr()
    return left.value.code, out.out, out.err


def test_the_command(results, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(claims.ledger, "LEDGER", tmp_path / "claims.toml")
    ledger = {"ahead": AHEAD_OF_COOP, "agrees": AGREES}
    monkeypatch.setattr(claims, "read_ledger", lambda only=(): [ledger[name] for name in only or ledger])
    places = ("--profile", "quick", "--results", str(results))
    code, out, _ = command(capsys, *places)
    assert code == 0 and "this kit's claims: 2 verified" in out and (results / "claims.json").is_file()
    code, out, _ = command(capsys, "ahead", *places, "--json")
    assert code == 0 and json.loads(out)["claims"][0]["verdict"] == "verified"
    again = rerun(results, tmp_path / "again", 9)
    code, out, err = command(capsys, "ahead", *places, "--against", str(again))
    assert code == 1 and "5 equal, 1 different" in out and "+9.00" in out and "1 of 6 cells are different" in err
    store, grid = Store(results / "records"), make_grid(seeds=range(1, 7))
    for item in grid.cells[OURS, "Flowers102"]:
        store.put(item, store.get(item) | {"rounds": store.get(grid.cells["ZS-CLIP", "DTD"][0])["rounds"]})
    code, _, err = command(capsys, *places)
    assert code == 1 and "ahead: -" in err and "agrees: 8 cells" not in err


def test_the_command_names_the_remedy(tmp_path, capsys):
    code, _, err = command(capsys, "table1-meen")
    assert code == 2 and "table1-mean" in err
    code, _, err = command(capsys, "--results", str(tmp_path / "none"))
    assert code == 2 and "pfedmoap reproduce --profile long" in err
    code, _, err = command(capsys, "kit-rerun", "--against", str(tmp_path / "none"))
    assert code == 2 and "There is no folder" in err
