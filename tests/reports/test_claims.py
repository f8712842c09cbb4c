"""Claims: the ledger, verdicts and what must flip them, their files, the page and the command."""

import json
from dataclasses import replace

import pytest
from claiming import AGREES, AHEAD_OF_COOP, LONG, OURS, judged, rerun, write_results
from reporting import make_grid

from pfedmoap.commands.app import main
from pfedmoap.errors import UserError
from pfedmoap.experiments import GRIDS, Place, Row, Store, run_all
from pfedmoap.methods import ZeroShot, ZeroShotOwnClasses
from pfedmoap.reports import claims, page, tables
from pfedmoap.reports.claims import Evidence
from pfedmoap.system import paths

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
