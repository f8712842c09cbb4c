"""Whatever is killed, wherever: nothing that was finished is lost, nothing half-written is believed, and what goes on
comes to the same result, bit for bit. Kills are counted: at random moments, and one before every write. `make test` has
a few of the former, `make kill-check` at least fifty (PFEDMOAP_KILLS times as many).
"""

import json
import os
import random
from collections import Counter
from itertools import count
from pathlib import Path

import pytest
import victims
from killing import finish, kill_all, kill_until_done, killed_before_write, start, timeless
from victims import BATCH, GRID, IMAGES, RUNS, VIEWS

from pfedmoap.experiments import Place, Store, run

MORE = int(os.environ.get("PFEDMOAP_KILLS", 1))
AT_LEAST = {"run": 2 * MORE, "grid": MORE, "processes": MORE, "features": 2 * MORE}  # kills at random moments


@pytest.fixture(scope="module")
def cache(features_cache):
    return features_cache


@pytest.fixture(scope="module")
def expected(cache):
    """Key -> record of the uninterrupted run."""
    return {one.key: timeless(run(one, Place(cache=cache), progress=False)) for one in [*RUNS.values(), *GRID]}


class Watch:
    """Looks into a folder of results after each kill."""

    def __init__(self, folder: Path, experiments, expected):
        self.store, self.experiments, self.expected = Store(folder), experiments, expected
        self.seen: dict[str, int] = {}

    def __call__(self) -> None:
        for one in self.experiments:
            path = self.store.path(one)
            if one.key in self.seen:
                assert path.stat().st_mtime_ns == self.seen[one.key], "a finished run was lost or run again"
            elif path.exists():
                assert timeless(json.loads(path.read_text())) == self.expected[one.key]
                self.seen[one.key] = path.stat().st_mtime_ns
            elif checkpoint := self.store.load_checkpoint(one):
                assert checkpoint[1]["key"] == one.key

    def finally_(self) -> None:
        self()
        assert self.seen.keys() == {one.key for one in self.experiments}
        left = {path.name for path in self.store.folder.iterdir() if path.suffix != ".json"}
        assert left <= {"done", ".lock"}, "half-written files, checkpoints and the runs' locks are cleared away"


def test_a_run(cache, expected, tmp_path):
    moments, kills = random.Random(1), Counter()
    seconds = {name: finish(victims.one_run, str(tmp_path / name), cache, name) for name in RUNS}
    for life in count():
        for name, one in RUNS.items():
            watch = Watch(tmp_path / f"{life} {name}", [one], expected)
            kills[name] += kill_until_done(victims.one_run, str(watch.store.folder), cache, name,
                                           seconds=seconds[name], moments=moments, after_kill=watch)
            watch.finally_()
        if kills.total() >= AT_LEAST["run"]:
            break
    assert kills.total() >= AT_LEAST["run"]
    print(f"{kills.total()} kills: {dict(kills)}")


def test_a_run_before_every_write(cache, expected, tmp_path):
    for number in count(1):
        watch = Watch(tmp_path / str(number), [RUNS["short"]], expected)
        folder = str(watch.store.folder)
        died = killed_before_write(number, folder, victims.one_run, folder, cache, "short")
        watch()
        finish(victims.one_run, folder, cache, "short")
        watch.finally_()
        if not died:
            break
    assert number > 5, "lock, checkpoint and record are opened, and the latter two renamed"


def test_a_grid(cache, expected, tmp_path):
    moments, kills, seconds = random.Random(2), 0, finish(victims.grid, str(tmp_path / "whole"), cache)
    for life in count():
        watch = Watch(tmp_path / str(life), GRID, expected)
        kills += kill_until_done(victims.grid, str(watch.store.folder), cache, seconds=seconds,
                                 moments=moments, after_kill=watch)
        watch.finally_()
        if kills >= AT_LEAST["grid"]:
            break
    assert kills >= AT_LEAST["grid"]
    print(f"{kills} kills in {life + 1} grids of {len(GRID)} runs")


def test_processes_at_one_folder_do_nothing_twice_but_what_a_kill_cut_short(cache, expected, tmp_path):
    """Three processes work through one grid; again and again one of them is killed and another takes its place."""
    moments, total = random.Random(3), 0
    for life in count():
        folder, kills = tmp_path / str(life), 0
        watch = Watch(folder, GRID, expected)
        working = [start(victims.noted_grid, str(folder), cache) for _ in range(3)]
        while len(list(folder.glob("*.json"))) < len(GRID) and total + kills < AT_LEAST["processes"]:
            victim = working.pop(moments.randrange(len(working)))
            victim.join(moments.uniform(0, 0.5))
            if victim.exitcode is None:
                kill_all(victim.pid)
                kills += 1
            victim.join()
            watch()
            working.append(start(victims.noted_grid, str(folder), cache))
        for process in working:
            process.join()
        assert [process.exitcode for process in working] == [0, 0, 0]
        watch.finally_()
        done = Counter((folder / "done").read_text().splitlines())
        assert done.keys() == {f"{one.key} {number}" for one in GRID for number in range(1, one.rounds + 1)}
        assert done.total() - len(done) <= kills, "a kill costs no more than the round that it cut short"
        total += kills
        if total >= AT_LEAST["processes"]:
            break
    print(f"{total} kills in {life + 1} grids")


def tables(folder: Path) -> dict[str, bytes]:
    """The files of the feature tables, byte for byte."""
    return {path.name: path.read_bytes() for path in folder.glob("*/*") if path.suffix in (".f32", ".crc32")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The tables of an uninterrupted extraction, and its seconds."""
    folder = tmp_path_factory.mktemp("whole")
    seconds, whole = finish(victims.features, str(folder)), tables(folder)
    assert len(whole) == 2 and all(map(any, whole.values()))
    return whole, seconds


def test_a_feature_extraction(whole, tmp_path):
    (expected, seconds), moments, kills = whole, random.Random(4), 0
    for life in count():
        folder = tmp_path / str(life)
        folder.mkdir()
        killed = kill_until_done(victims.features, str(folder), seconds=seconds, moments=moments)
        kills += killed
        assert tables(folder) == expected
        batches = len((folder / "encoded").read_text().splitlines())
        assert 0 <= batches - VIEWS * IMAGES // BATCH <= killed, "a kill costs no more than the batch that it cut short"
        if kills >= AT_LEAST["features"]:
            break
    print(f"{kills} kills in {life + 1} extractions")


def test_extractions_at_one_cache_encode_everything_once(whole, tmp_path):
    folder = tmp_path
    working = [start(victims.features, str(folder)) for _ in range(3)]
    for process in working:
        process.join()
    assert [process.exitcode for process in working] == [0] * 3
    assert tables(folder) == whole[0]
    assert len((folder / "encoded").read_text().splitlines()) == VIEWS * IMAGES // BATCH
