"""A batch of real notebooks, killed with its kernels and their workers: `make kill-check`."""

import json
import os
import random
import subprocess
import sys

import pandas as pd
import pytest
from killing import kill_all, timeless

pytestmark = pytest.mark.kills
NOTEBOOKS = ("table6", "table8")
AT_LEAST = 12  # kills
LIVES = 4  # kills before it may go on to its end


def reproduce(folder, cache):
    """The batch, as a user starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "pfedmoap", "reproduce", *NOTEBOOKS, "--profile", "smoke", "--seeds", "1",
         "--results", str(folder / "r"), "--figures", str(folder / "f"), "--cache-dir", str(cache)],
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"})


def products(folder):
    """Tables and records without their seconds, to the last digit, by name; all of a folder can be read."""
    records = {path.name: timeless(json.loads(path.read_text())) for path in (folder / "r/records").glob("*.json")}
    tables = {path.name: pd.read_csv(path, dtype=str) for path in (folder / "r").glob("*.csv")}
    return records | {name: table.drop(columns="seconds").to_csv() for name, table in tables.items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an uninterrupted batch makes."""
    folder = tmp_path_factory.mktemp("whole")
    process = reproduce(folder, folder / "cache")
    assert process.wait() == 0, process.stderr.read()
    whole = products(folder)
    assert {"table6.csv", "table8.csv"} <= whole.keys() and len(whole) > 10
    return whole


def test_a_killed_batch_goes_on_to_the_same_tables(whole, tmp_path):
    moments, kills = random.Random(5), 0
    while kills < AT_LEAST:
        folder = tmp_path / str(kills)
        folder.mkdir()
        for _ in range(LIVES):
            process = reproduce(folder, folder / "cache")
            try:
                process.wait(timeout=moments.uniform(2, 20))
                break
            except subprocess.TimeoutExpired:
                kill_all(process.pid)
                process.wait()
                kills += 1
                found = products(folder)
                assert {name: whole[name] for name in found} == found
        process = reproduce(folder, folder / "cache")
        assert process.wait() == 0, process.stderr.read()
        assert products(folder) == whole
    print(f"{kills} kills")
