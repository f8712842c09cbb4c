"""Records and checkpoints on disk: nothing half written, nothing done twice."""

import json
import multiprocessing
import os

import pytest
import torch

from pfedmoap.errors import UserError
from pfedmoap.experiments import Experiment, Store
from pfedmoap.experiments.store import write_atomically

ONE = Experiment()


def test_what_is_put_is_got(tmp_path):
    store = Store(tmp_path / "deep" / "records")
    assert store.get(ONE) is None
    store.put(ONE, {"accuracy": 0.5})
    assert store.get(ONE) == {"accuracy": 0.5} and store.records() == [{"accuracy": 0.5}]
    assert store.get(Experiment(seed=2)) is None


def test_a_checkpoint_comes_back_and_goes_with_the_record(tmp_path):
    store = Store(tmp_path)
    tensors = {"shared/prompt": torch.randn(4, 8), "personal/3/gate.key.bias": torch.randn(6).double()}
    store.save_checkpoint(ONE, tensors, {"epochs": [1, 2], "history": []})
    loaded, state = store.load_checkpoint(ONE)
    assert loaded.keys() == tensors.keys() and all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert state == {"epochs": [1, 2], "history": []}
    store.put(ONE, {})
    assert store.load_checkpoint(ONE) is None


def test_a_damaged_record_counts_as_not_run_and_a_damaged_checkpoint_names_itself(tmp_path):
    store = Store(tmp_path)
    store.path(ONE).write_text('{"accuracy": 0.')
    assert store.get(ONE) is None
    store.save_checkpoint(ONE, {"a": torch.ones(3)}, {})
    checkpoint = next(tmp_path.glob("*.checkpoint.safetensors"))
    checkpoint.write_bytes(checkpoint.read_bytes()[:-4])
    with pytest.raises(UserError, match=f"{checkpoint.name}.*delete it"):
        store.load_checkpoint(ONE)


def test_a_full_disk_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    write_atomically(path, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device.*free some space"):
        write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--results DIR"):
        Store(tmp_path / "file" / "records")


def hold(folder, ready, release):
    with Store(folder).claim(ONE) as mine:
        ready.put(mine)
        release.get()


def test_another_process_cannot_claim_a_run_until_its_owner_is_gone(tmp_path):
    processes = multiprocessing.get_context("forkserver")
    ready, release = processes.Queue(), processes.Queue()
    owner = processes.Process(target=hold, args=(str(tmp_path), ready, release))
    owner.start()
    assert ready.get(timeout=60)
    with Store(tmp_path).claim(ONE) as mine:
        assert not mine
    with Store(tmp_path).claim(Experiment(seed=2)) as mine:
        assert mine
    owner.kill()
    owner.join()
    with Store(tmp_path).claim(ONE, wait=True) as mine:
        assert mine


def test_records_are_plain_json(tmp_path):
    store = Store(tmp_path)
    store.put(ONE, {"experiment": ONE.to_dict()})
    assert Experiment.from_dict(json.loads(store.path(ONE).read_text())["experiment"]) == ONE
