"""Runs as Ray tasks: the same records, none lost and none twice, whatever is killed. Without Ray: what to install."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from test_runs import results, small

from pfedmoap import batch
from pfedmoap.commands import app, ray_grids
from pfedmoap.commands.ray_grids import run_grids
from pfedmoap.errors import PfedmoapError, UserError
from pfedmoap.experiments import GRIDS, Cluster, Experiment, Place, Store, run, run_on_ray
from pfedmoap.experiments import ray as on_ray
from pfedmoap.experiments.ray import connected
from pfedmoap.methods import PFedMoAP, PromptFL

NO_RAY = "Ray is an optional extra: `make ray-check` installs it and runs these tests"
GRID = [small(method, seed=seed, rounds=20) for method in (PromptFL(), PFedMoAP()) for seed in (1, 2, 3)]


class CountingStore(Store):
    """Knows which experiments were put into it, in order."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.written: list[Experiment] = []

    def put(self, experiment, record):
        self.written.append(experiment)
        super().put(experiment, record)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    return Place(cache=str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def expected(place) -> list:
    return [results(run(one, place, progress=False)) for one in GRID]


@pytest.fixture(scope="module")
def ray():
    """A Ray of two workers in which all calls of this process run."""
    pytest.importorskip("ray", reason=NO_RAY)
    with connected(Cluster("local", jobs=2)) as ray:
        yield ray


def planned(tmp_path, *names, **parameters) -> list[batch.Job]:
    folders = {"results": str(tmp_path / "results"), "figures": str(tmp_path / "figures")}
    return batch.plan(names, "smoke", folders | parameters)


# --- without Ray


def test_without_ray_the_error_says_what_to_install(place, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"Ray is not installed: pip install 'pfedmoap\[cluster\]'"):
        run_on_ray(GRID, place, Store(tmp_path))


def test_what_is_stored_needs_no_ray(place, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    run(one := small(PromptFL(), rounds=1), place, store=Store(tmp_path), progress=False)
    assert run_on_ray([one, one], place, Store(tmp_path)) == []


@pytest.mark.parametrize(("given", "address"), [(["--ray"], ""), (["--ray", "host:6379"], "host:6379")])
def test_the_command_hands_over_every_grid_before_its_notebooks(tmp_path, monkeypatch, given, address):
    calls = []

    def fake(experiments, place, store, cluster):
        calls.append((experiments, place, store.folder, cluster))
        return [(experiments[0], PfedmoapError("it broke"))]

    monkeypatch.setattr(ray_grids, "run_on_ray", fake)
    executed = []
    monkeypatch.setattr(batch, "execute", lambda jobs, **_: (job for job in executed.extend(jobs) or ()))
    monkeypatch.chdir(tmp_path)
    arguments = ["reproduce", "00", "table1", "figure4", "--profile", "smoke", "--seeds", "1,2", "--results", "there",
                 "--figures", "there", "--cache-dir", "cache", "--device", "cuda", "--jobs", "3", *given]
    with pytest.raises(SystemExit) as ended:
        app.main(arguments)
    (handed, place, folder, cluster), = calls
    grids = [list(GRIDS[name]("smoke", seeds=[1, 2])) for name in ("table1", "figure4")]
    assert handed == grids[0] + grids[1] and folder == tmp_path / "there" / "records"
    assert place == Place(None, str(tmp_path / "cache"), "cuda") and cluster == Cluster(address, 3, 0.25)
    # The run that failed is table1's: that notebook is left out, and the rest executed.
    assert [job.name for job in executed] == ["00_start_here", "figure4_lambda"] and ended.value.code == 1


def test_unchanged_notebooks_and_grids_that_cannot_run_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_grids, "run_on_ray", None)
    jobs = planned(tmp_path, "table1", methods="no_such_method")  # its notebook says so
    assert run_grids(jobs, Cluster()) == {}
    monkeypatch.setattr(ray_grids, "is_unchanged", lambda job: True)
    assert run_grids(planned(tmp_path, "table1"), Cluster()) == {}


# --- with Ray


@pytest.mark.parametrize(("address", "message"), [
    ("127.0.0.1:1", "There is no Ray at '127.0.0.1:1'.*ray start --head"),
    ("table1", "There is no Ray at 'table1'.*names of notebooks come before --ray"),
])
def test_an_address_where_nobody_answers_is_refused_at_once(place, tmp_path, address, message):
    pytest.importorskip("ray", reason=NO_RAY)
    with pytest.raises(UserError, match=message):
        run_on_ray(GRID, place, Store(tmp_path), Cluster(address))


def workers() -> list[psutil.Process]:
    """This user's Ray workers that are at a run."""
    return [process for process in psutil.process_iter(["cmdline", "uids"])
            if process.info["cmdline"] and process.info["cmdline"][0] == "ray::_work"
            and process.info["uids"].real == os.getuid()]


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def test_a_worker_killed_in_the_middle_of_a_run_loses_nothing(ray, place, tmp_path, expected):
    store, killed = CountingStore(tmp_path), []

    def kill_one():
        while not killed:
            if store.written and (found := workers()):
                os.kill(found[0].pid, signal.SIGKILL)
                killed.append(found[0].pid)
            time.sleep(0.01)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    assert run_on_ray([*GRID, *GRID], place, store, progress=False) == []
    killer.join(timeout=1)
    assert killed and sorted(one.key for one in store.written) == sorted(one.key for one in GRID)
    assert [results(store.get(one)) for one in GRID] == expected


def test_a_driver_killed_and_restarted_goes_on(ray, place, tmp_path, expected):
    code = ("import sys; from test_ray import *\n"
            "run_on_ray(GRID, Place(cache=sys.argv[2]), Store(sys.argv[1]), Cluster(sys.argv[3]), progress=False)")
    arguments = str(tmp_path), place.cache, ray.get_runtime_context().gcs_address
    driver = subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=Path(__file__).parent)
    while len(list(tmp_path.glob("*.json"))) < 2 and driver.poll() is None:
        time.sleep(0.01)
    driver.kill()
    driver.wait()
    wait_until(lambda: not workers())  # they go when their driver goes
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert len(done) >= 2
    store = CountingStore(tmp_path)
    assert run_on_ray(GRID, place, store, progress=False) == []
    assert len(store.written) == len(set(store.written)) == len(GRID) - len(done)
    assert all(path.stat().st_mtime_ns == written for path, written in done.items())
    assert [results(store.get(one)) for one in GRID] == expected


def test_what_another_process_is_at_is_not_done_twice(ray, place, tmp_path):
    store, other = CountingStore(tmp_path), Store(tmp_path)
    theirs, ours = small(PromptFL(), rounds=1), small(PromptFL(), rounds=1, seed=2)
    held, done = threading.Event(), run(theirs, place, progress=False)

    def hold():
        with other.claim(theirs):
            held.set()
            while not store.written:
                time.sleep(0.01)
            other.put(theirs, done)

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    held.wait()
    assert run_on_ray([theirs, ours], place, store, progress=False) == []
    assert store.written == [ours] and store.get(theirs) == done


def test_a_failing_run_and_one_whose_worker_always_dies_stop_no_other(ray, place, tmp_path, monkeypatch):
    broken, deadly, fine = small(lr=1e30), small(seed=5), small(PromptFL(), rounds=1)
    work = on_ray._work
    monkeypatch.setattr(on_ray, "_work", lambda experiment, place: (
        os._exit(1) if experiment == deadly else work(experiment, place)))
    store = CountingStore(tmp_path)
    failed = dict(run_on_ray([broken, deadly, fine], place, store, Cluster(retries=1), progress=False))
    assert set(failed) == {broken, deadly} and store.written == [fine]
    assert "became" in str(failed[broken]) and "its worker died 2 times" in str(failed[deadly])
