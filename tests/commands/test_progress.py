"""The lines about notebooks, on a terminal and elsewhere, without executing any."""

from pathlib import Path

import pytest

from pfedmoap.batch import Job, Outcome
from pfedmoap.commands.progress import Watch


@pytest.fixture
def jobs(tmp_path) -> list[Job]:
    (tmp_path / "records").mkdir()
    names = "table1_a", "table2_b", "table3_c"
    return [Job(Path(f"{name}.ipynb"), tmp_path / f"{name}.ipynb", {}, (tmp_path, tmp_path)) for name in names]


def outcomes(jobs, watch):
    first, second, third = jobs
    yield Outcome(first, 0.0, (), skipped=True)
    for job in (second, third):
        watch.start(job)
    (second.folders[0] / "records" / "run.json").touch()
    yield Outcome(third, 1.25, (), failure="its kernel was killed")
    yield Outcome(second, 83.0, (), restarted=True)


@pytest.mark.parametrize("terminal", [False, True])
def test_every_notebook_has_its_line_and_all_have_a_summary(jobs, capsys, monkeypatch, terminal):
    monkeypatch.setenv("TTY_COMPATIBLE" if terminal else "NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    watch = Watch(jobs)
    seen = watch.all(outcomes(jobs, watch))
    assert [outcome.job for outcome in seen] == [jobs[0], jobs[2], jobs[1]]
    out, err = capsys.readouterr()
    *before, last = err.splitlines()
    assert out == ""
    for line in ("table1_a: unchanged, skipped (--force executes it again)", "table3_c: failed in 1.2 s",
                 "table2_b: done in 1 min 23 s, its kernel died once"):  # fmt: skip
        assert line in err
    assert ("table2_b: started" in before) == (not terminal)
    assert terminal == ("new run" in "".join(before))  # the living line
    assert "2 of 3 notebooks were executed in " in last and last.endswith(", 1 new run")
