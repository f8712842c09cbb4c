"""Cores that are shared by processes that do not know each other."""

import subprocess
import sys
import threading
import time

import pytest

from pfedmoap.system import cores

HOLDS = "import time; from pfedmoap.system import cores\nwith cores.one(): print('mine', flush=True); time.sleep(60)"


@pytest.fixture
def shared(tmp_path, monkeypatch):
    for name, value in cores.share(2, tmp_path / "a folder").items():
        monkeypatch.setenv(name, value)
    (tmp_path / "a folder").mkdir()


def most_at_once(threads: int) -> int:
    busy, most, lock = 0, 0, threading.Lock()

    @cores.one()
    def work():
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.05)
        with lock:
            busy -= 1

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    return most


def test_no_more_than_the_shared_cores_are_held_at_once(shared):
    assert most_at_once(6) == 2


def test_cores_that_are_not_shared_are_free():
    assert most_at_once(4) == 4


def test_a_killed_process_gives_its_core_back(shared):
    holders = [subprocess.Popen([sys.executable, "-c", HOLDS], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [holder.stdout.readline() for holder in holders] == ["mine\n", "mine\n"]
    for holder in holders:
        holder.kill()
        holder.communicate()
    with cores.one():
        pass
