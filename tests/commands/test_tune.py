"""`pfedmoap tune` from the first try to its tables, on one small set."""

import json

import pandas as pd
import pytest

from pfedmoap.commands.app import main

ARGUMENTS = ("tune", "--methods", "PromptFL", "--datasets", "Nature", "--profile", "smoke", "--jobs", "1")


@pytest.fixture
def call(capsys, tmp_path, features_cache):
    """Calls `pfedmoap tune` with folders of the test's own; returns exit code, standard output and error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([*arguments, "--results", str(tmp_path), "--cache-dir", features_cache])
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    return call


def test_it_tunes_compares_and_never_runs_twice(call, tmp_path):
    code, out, err = call(*ARGUMENTS)
    assert code == 0 and "Traceback" not in err
    for words in ("chosen on validation draws", "the paper's settings", "tuned once for all", "PromptFL", "lr 0.0"):
        assert words in out
    tries = pd.read_csv(tmp_path / "tuning.csv")
    assert tries["try"].tolist() == list(range(6)) and tries["accuracy"].between(0, 100).all()
    records = {path: path.stat().st_mtime_ns for path in (tmp_path / "records").glob("*.json")}
    on_draws = [path for path in records if path.name.startswith("nature-validation-promptfl-s0-")]
    assert len(on_draws) == 6 and len(records) - len(on_draws) in (1, 2)  # the choice may be the paper's setting

    code, out, _ = call(*ARGUMENTS, "--json")
    told = json.loads(out)
    assert code == 0 and {path: path.stat().st_mtime_ns for path in (tmp_path / "records").glob("*.json")} == records
    best = tries.loc[tries["accuracy"].round(3).idxmax()]
    chosen = told["tuning"]["once"]["promptfl"]
    assert (chosen["try"], chosen["settings"]) == (best["try"], best["settings"])
    assert {line["group"] for line in told["tuned"]} == {"paper", "once", "per_dataset"}
    assert pd.read_csv(tmp_path / "tuned.csv")["mean"].tolist() == pytest.approx(
        [line["mean"] for line in told["tuned"]], abs=1e-4)


@pytest.mark.parametrize(("arguments", "message"), [
    (["--methods", "pfedmaop"], "There is no method 'pfedmaop'; did you mean 'pfedmoap'?"),
    (["--methods", "ZS-CLIP"], "zero_shot is not trained and has nothing to tune"),
    (["--datasets", "natur"], "There is no data set 'natur'; did you mean 'nature'?"),
    (["--datasets", "digits"], "There is no data set of Table 1 (quick) 'digits'"),
    (["--seeds", "x"], "seeds must be a whole number, not 'x'."),
    (["--profile", "paper"], "flowers102 has no validation draw"),
])
def test_a_mistake_is_one_sentence_and_exit_code_2(call, arguments, message):
    code, out, err = call("tune", *arguments)
    assert (code, out) == (2, "")
    *_, last = err.splitlines()
    assert last.startswith("error: ") and message in last
