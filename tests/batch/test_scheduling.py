"""Several notebooks at once, and everything that may happen to one of them."""

import os
import signal
import subprocess
import sys
import time
from itertools import count
from multiprocessing import forkserver
from pathlib import Path

import nbformat
import psutil
import pytest
from interrupts import hearing_interrupts
from small_notebooks import PARAMETERS, WRITES, printed, write_notebook

from pfedmoap.batch import Job, execute, executing, plan, scheduling
from pfedmoap.batch.executing import Ending
from pfedmoap.commands.app import main
from pfedmoap.system import paths

pytest_plugins = ["notebook_fixtures"]  # a second conftest.py would hide the first from imports

# A kernel that has a process of its own, as those that compute in worker processes.
WORKS = """
import os, subprocess, sys, time
print("so far", flush=True)
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
with open("pids.part", "w") as file:
    file.write(f"{os.getpid()} {worker.pid}")
os.rename("pids.part", "pids")
"""
SLEEPS = "time.sleep(100)"
DIES = """
import os
from pathlib import Path
deaths = Path("deaths")
deaths.write_text(deaths.read_text() + "x" if deaths.exists() else "x")
"""


def run(folder, places, *names, **options):
    return {outcome.job.name: outcome for outcome in execute(plan(names, "quick", places, folder), **options)}


def wait_for(path: Path, process: subprocess.Popen | None = None) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline and (process is None or process.poll() is None), path
        time.sleep(0.05)


def assert_gone(pids: Path) -> None:
    deadline = time.monotonic() + 10
    for pid in map(int, pids.read_text().split()):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, f"process {pid} is still there"
            time.sleep(0.05)


def test_a_failing_notebook_is_reported_and_the_others_go_on(folder, places, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "NOTEBOOKS", folder)
    monkeypatch.chdir(tmp_path)
    arguments = ["reproduce", "table2", "table1", "--profile", "smoke", "--seeds", "2", "--jobs", "3"]
    arguments += ["-p", "fast=true", "-p", "share", "1", "--results", "r", "--figures", "f"]
    with pytest.raises(SystemExit) as left:
        main(arguments)
    out, err = capsys.readouterr()

    assert left.value.code == 1
    assert out.splitlines() == ["f/table1.png", "r/table1.csv"]
    assert (tmp_path / "r" / "table1.csv").read_text() == "smoke 2 3 True 1.0"
    assert "table2_broken: started" in err and "table1_good: done in " in err
    assert "2 of 2 notebooks were executed in " in err
    report = err[err.index("error:") :].splitlines()
    assert report[0] == "error: 1 of 2 notebooks failed."
    assert [line.strip() for line in report[1:]] == [
        "table2_broken, cell [4]:", "first = 1", "second = 2", "third = 3", "...",
        "ValueError: and the last line", "what it did: r/notebooks/table2_broken.ipynb",
    ]  # fmt: skip
    assert "so far" in printed(tmp_path / "r" / "notebooks" / "table2_broken.ipynb")


def test_notebooks_that_start_at_once_run_side_by_side_and_know_what_they_wrote(folder, places, monkeypatch):
    """Each waits until all of them are there; a clash of ports would keep one of them away."""
    monkeypatch.setattr(scheduling, "MOST_AT_ONCE", 4)
    meets = """
import time
from itertools import count
from pathlib import Path
Path(f"{mine}.here").touch()
deadline = time.monotonic() + 60
while len(list(Path().glob("*.here"))) < 4:
    assert time.monotonic() < deadline
    time.sleep(0.05)
Path(results, f"{mine}.csv").touch()
"""
    names = [f"table{number}" for number in (4, 5, 6, 7)]
    for name in names:
        write_notebook(folder / f"{name}_meets.ipynb", f"mine = '{name}'" + meets)
    outcomes = run(folder, places, *names, processes=4)
    assert {name: outcome.failure for name, outcome in outcomes.items() if outcome.failure} == {}
    for name in names:
        assert [path.name for path in outcomes[f"{name}_meets"].written] == [f"{name}.csv"]


def test_on_a_gpu_one_notebook_is_executed_after_the_other(folder, places):
    alone = """
import time
from itertools import count
from pathlib import Path
Path("busy").mkdir()
time.sleep(0.3)
Path("busy").rmdir()
"""
    for name in ("table3_a", "table4_b"):
        write_notebook(folder / f"{name}.ipynb", alone, parameters=f'{PARAMETERS}device = "cpu"')
    outcomes = run(folder, {**places, "device": "cuda"}, "table3", "table4", processes=2)
    assert [outcome.failure for outcome in outcomes.values()] == [None, None]


def test_a_dead_kernel_is_replaced_once(folder, places):
    once = DIES + "if deaths.read_text() == 'x': os._exit(9)"
    write_notebook(folder / "table3_dies.ipynb", once, WRITES)
    (outcome,) = run(folder, places, "table3").values()
    assert outcome.failure is None and outcome.restarted
    assert [path.name for path in outcome.written] == ["table1.png", "table1.csv"]


def test_a_kill_of_what_notebooks_are_forked_from_costs_one_start(folder, places, monkeypatch):
    read, ensure = forkserver.read_signed, forkserver._forkserver.ensure_running
    times = count()

    def killed(pipe):  # before it has forked
        os.kill(server, signal.SIGKILL)
        monkeypatch.setattr(forkserver, "read_signed", read)
        monkeypatch.setattr(forkserver._forkserver, "ensure_running", notices)
        return read(pipe)

    def notices():  # it is taken for alive once more
        if next(times):
            ensure()

    forkserver.ensure_running()
    server = forkserver._forkserver._forkserver_pid
    os.kill(server, signal.SIGSTOP)
    monkeypatch.setattr(forkserver, "read_signed", killed)
    (outcome,) = run(folder, places, "table1").values()
    assert outcome.failure is None and not outcome.restarted
    assert forkserver._forkserver._forkserver_pid != server


@pytest.mark.parametrize("death, what", [("os._exit(9)", "its kernel was killed"),
                                         ("os.kill(os.getppid(), 9); import time; time.sleep(60)", "the process that")])
def test_one_that_dies_twice_is_a_failure_with_a_remedy_and_the_others_go_on(folder, places, death, what):
    write_notebook(folder / "table3_dies.ipynb", "print('so far')", DIES + death)
    outcomes = run(folder, places, "table3", "table1", processes=2)
    failure = outcomes["table3_dies"].failure
    assert failure.startswith(what) and failure.endswith(" twice, perhaps for lack of memory: run the same again, with "
                                                         "fewer --jobs")
    assert (folder / "deaths").read_text() == "xx"
    assert "so far" in printed(outcomes["table3_dies"].job.output)
    assert outcomes["table1_good"].failure is None


def test_one_that_takes_too_long_is_stopped_with_all_its_processes_and_its_outputs_kept(folder, places):
    write_notebook(folder / "table3_hangs.ipynb", WORKS, SLEEPS)
    outcomes = run(folder, places, "table3", "table1", processes=2, minutes=0.1)
    assert outcomes["table1_good"].failure is None
    failure = outcomes["table3_hangs"].failure
    assert failure.startswith("stopped after 0.1 minutes: what is finished is kept") and "--timeout MINUTES" in failure
    assert not outcomes["table3_hangs"].restarted
    assert "so far" in printed(outcomes["table3_hangs"].job.output)
    assert_gone(folder / "pids")


@pytest.fixture
def reproducing(folder, places, tmp_path):
    """`pfedmoap reproduce` as a real process in a process group of its own, in the middle of a notebook."""
    write_notebook(folder / "table3_long.ipynb", WORKS, SLEEPS)
    code = (f"from pathlib import Path; from pfedmoap.batch import scheduling; from pfedmoap.commands import main; "
            f"from pfedmoap.system import paths; scheduling.PRELOADED = scheduling.PRELOADED[:5]; "  # it needs no more
            f"paths.NOTEBOOKS = Path({str(folder)!r}); main(['reproduce', 'table3', '--results', "
            f"{places['results']!r}, '--figures', {places['figures']!r}])")
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, start_new_session=True,
                               env=os.environ | {"TMPDIR": str(tmp_path)}, preexec_fn=hearing_interrupts)
    try:
        wait_for(folder / "pids", process)
        yield process
    finally:
        process.kill()
        process.communicate()


def test_an_interrupt_stops_everything_and_says_how_to_go_on(reproducing, folder, places):
    os.killpg(reproducing.pid, signal.SIGINT)  # as a terminal does
    _, err = reproducing.communicate(timeout=60)
    assert reproducing.returncode == 130
    assert err.splitlines() == ["table3_long: started",
                                "interrupted; what is finished is kept, run the same again to go on"]
    assert_gone(folder / "pids")
    kept = Path(places["results"], "notebooks")
    nbformat.validate(nbformat.read(kept / "table3_long.ipynb", as_version=4))
    assert "so far" in printed(kept / "table3_long.ipynb")
    assert not list(kept.glob("*.json"))


def test_nothing_outlives_a_process_that_is_killed(reproducing, folder):
    kernel, worker = (folder / "pids").read_text().split()
    (folder / "kernel").write_text(kernel)
    try:
        reproducing.kill()
        assert_gone(folder / "kernel")
    finally:
        os.kill(int(worker), signal.SIGKILL)  # unlike those of `runs`, it does not watch its parent


def test_leaving_early_stops_what_is_running(folder, places):
    write_notebook(folder / "table3_long.ipynb", WORKS, SLEEPS)
    outcomes = execute(plan(["table3", "table1"], "quick", places, folder), processes=2)
    assert next(outcomes).job.name == "table1_good"
    wait_for(folder / "pids")
    outcomes.close()
    assert_gone(folder / "pids")


@pytest.mark.parametrize("error, ending", [
    (TimeoutError(), Ending(died="its kernel did not answer in time (the machine may be too busy)")),
    (OSError("no reason"), Ending(failure="out.ipynb cannot be written (no reason)")),
    (OSError(28, "No space left", "r/out.ipynb"), Ending(failure="r/out.ipynb cannot be written (No space left)")),
])
def test_a_slow_kernel_is_not_taken_for_a_full_disk(error, ending, monkeypatch, tmp_path):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("papermill.execute_notebook", fails)
    job = Job(tmp_path / "in.ipynb", Path("out.ipynb"), {}, (tmp_path, tmp_path))
    assert executing.execute(job, tmp_path) == ending
