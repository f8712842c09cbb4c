"""Records and checkpoints on disk: nothing half written, nothing done twice."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pfedmoap.errors import UserError
from pfedmoap.experiments import Experiment, Record, Store, read_tensors, write_tensors
from pfedmoap.experiments.store import write_atomically

ONE = Experiment()


def make_sound(experiment: Experiment) -> Record:
    """A record without a checksum, as an earlier version wrote it."""
    rounds = [{"number": number, "selected": [0], "losses": {"0": 1.0 / number}, "accuracies": [0.5, 0.75] * 5,
               "diagnostics": {}, "bytes_up": {"0": 512}, "bytes_down": {"0": 512}, "sigmas": {},
               "seconds": {"train": 1.0}, "accuracy": 0.625} for number in range(1, experiment.rounds + 1)]
    return {"key": experiment.key, "experiment": json.loads(json.dumps(experiment.to_dict())), "accuracy": 0.625,
            "accuracy_last5": 0.625, "rounds": rounds, "seconds": {"prepare": 0.0, "total": 1.0},
            "data": {"source": "drawn", "notes": [], "fingerprint": "0", "classes": 10, "train_images": [16] * 10,
                     "test_images": [20] * 10},
            "clip": {"name": "RN50", "weights": "openai", "fingerprint": "0", "device": "cpu"}}


def test_what_is_put_is_got(tmp_path):
    store = Store(tmp_path / "deep" / "records")
    assert store.get(ONE) is None
    store.put(ONE, record := make_sound(ONE))
    assert store.get(ONE) == record
    assert store.get(Experiment(seed=2)) is None


def test_a_checkpoint_comes_back_and_goes_with_the_record(tmp_path):
    store = Store(tmp_path)
    tensors = {"shared/prompt": torch.randn(4, 8), "personal/3/gate.key.bias": torch.randn(6).double()}
    store.save_checkpoint(ONE, tensors, {"epochs": [1, 2], "history": []})
    loaded, state = store.load_checkpoint(ONE)
    assert loaded.keys() == tensors.keys() and all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert state == {"epochs": [1, 2], "history": []}
    store.put(ONE, make_sound(ONE))
    assert store.load_checkpoint(ONE) is None


def test_a_record_of_an_earlier_version_is_believed_and_has_the_settings_that_are_new(tmp_path):
    store, record = Store(tmp_path), make_sound(ONE)
    del record["experiment"]["test_images"]
    store.path(ONE).write_text(json.dumps(record))
    assert store.get(ONE) == make_sound(ONE)


def less(record, client):
    for entry in record["rounds"]:
        del entry["accuracies"][client]


# What a record without a checksum cannot be.
LIES = {
    "another run's": lambda record: record.update(key="0" * 16),
    "of another seed": lambda record: record["experiment"].update(seed=2),
    "of settings that are none": lambda record: record["experiment"].update(rounds="ten"),
    "of an accuracy that its rounds do not have": lambda record: record.update(accuracy=0.99),
    "of a mean that its rounds do not have": lambda record: record.update(accuracy_last5=0.5),
    "of an accuracy of 17": lambda record: record["rounds"][-1]["accuracies"].__setitem__(0, 17.0),
    "of an accuracy that is true": lambda record: record["rounds"][0]["accuracies"].__setitem__(0, True),
    "a round short": lambda record: record["rounds"].pop(),
    "of rounds in reverse": lambda record: record["rounds"].reverse(),
    "a client short": lambda record: less(record, -1),
    "a client short in one round": lambda record: record["rounds"][3]["accuracies"].pop(),
    "of a client that there is not": lambda record: record["rounds"][0]["losses"].update({"10": 1.0}),
    "of a client that is no number": lambda record: record["rounds"][0]["losses"].update(zero=1.0),
    "of a client that trained twice": lambda record: record["rounds"][0].update(selected=[0, 0]),
    "of bytes that are text": lambda record: record["rounds"][0]["bytes_up"].update({"0": "512"}),
    "of a loss that is infinite": lambda record: record["rounds"][0]["losses"].update({"0": float("inf")}),
    "of a number of 400 digits": lambda record: record["seconds"].update(total=10**400),
    "without rounds": lambda record: record.pop("rounds"),
    "with notes that are no list": lambda record: record["data"].update(notes="none"),
    "of a CLIP that has no name": lambda record: record["clip"].update(name=None),
}


@pytest.mark.parametrize("lie", list(LIES))
def test_what_cannot_be_a_runs_record_counts_as_not_run(tmp_path, lie):
    store, record = Store(tmp_path), make_sound(ONE)
    store.path(ONE).write_text(json.dumps(record))
    assert store.get(ONE) == record
    LIES[lie](record)
    store.path(ONE).write_text(json.dumps(record))
    assert store.get(ONE) is None


def test_a_record_that_was_changed_by_hand_counts_as_not_run(tmp_path):
    store = Store(tmp_path)
    store.put(ONE, make_sound(ONE))
    store.path(ONE).write_text(store.path(ONE).read_text().replace('"train": 1.0', '"train": 2.0', 1))
    assert store.get(ONE) is None


@pytest.mark.parametrize("content", [b"[]", b"17", b"[" * 100_000, b"\xff", b'{"a": ' + b"9" * 5000 + b"}", b"",
                                     '{"accuracy": 1}'.encode("utf-16")], ids=lambda content: repr(content[:9]))
def test_a_file_that_is_no_record_counts_as_not_run(tmp_path, content):
    store = Store(tmp_path)
    store.path(ONE).write_bytes(content)
    assert store.get(ONE) is None


def test_what_is_no_file_counts_as_not_run(tmp_path):
    store = Store(tmp_path)
    for make in (Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path.name)):
        make(store.path(ONE))
        assert store.get(ONE) is None
        store.path(ONE).rmdir() if store.path(ONE).is_dir() else store.path(ONE).unlink()


@pytest.mark.parametrize("change", [
    lambda tensors, state: (tensors, state | {"epochs": [9]}), lambda tensors, state: ({"a": torch.zeros(3)}, state),
    lambda tensors, state: ({"b": torch.ones(3)}, state)], ids=["its state", "a number", "a name"])
def test_a_checkpoint_that_was_changed_is_refused(tmp_path, change):
    store, tensors, state = Store(tmp_path), {"a": torch.ones(3)}, {"epochs": [1]}
    store.save_checkpoint(ONE, tensors, state)
    (path,) = tmp_path.glob("*.checkpoint.safetensors")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors, state = change(tensors, state)
    save_file(tensors, path, metadata | {"state": json.dumps(state)})
    with pytest.raises(UserError, match="checksum is wrong.*delete it"):
        store.load_checkpoint(ONE)
    save_file(tensors, path, {"state": json.dumps(state)})
    with pytest.raises(UserError, match="has no checksum.*delete it"):
        store.load_checkpoint(ONE)


def test_tensors_of_every_kind_come_back_and_what_is_not_finite_does_not(tmp_path):
    kinds = {"none": torch.ones(0, 3), "number": torch.tensor(3.0), "bf16": torch.randn(3, 2).bfloat16(),
             "fp16": torch.randn(3).half(), "counts": torch.arange(4)}
    write_tensors(path := tmp_path / "a.safetensors", kinds, "about", {"a": [1, None]})
    tensors, about, checked = read_tensors(path, "about")
    assert about == {"a": [1, None]} and checked and tensors.keys() == kinds.keys()
    assert all(torch.equal(tensors[name], kinds[name]) for name in kinds)
    with pytest.raises(ValueError, match="says nothing of state"):
        read_tensors(path, "state")
    write_tensors(path, {"a": torch.tensor([1.0, torch.nan])}, "about", {})
    with pytest.raises(ValueError, match="a has numbers that are not finite"):
        read_tensors(path, "about")
    os.mkfifo(pipe := tmp_path / "pipe")
    with pytest.raises(ValueError, match="no file"):
        read_tensors(pipe, "about")


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
    store.put(ONE, make_sound(ONE))
    assert Experiment.from_dict(json.loads(store.path(ONE).read_text())["experiment"]) == ONE
