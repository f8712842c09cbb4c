"""The list of cached features, and their removal."""

import json
from datetime import datetime, timedelta

import numpy as np
import pytest
from filelock import FileLock
from toys import FakeClip, toy_set

from pfedmoap.data import cache, image_features
from pfedmoap.errors import UserError


@pytest.fixture
def filled(tmp_path):
    imageset = toy_set(40)
    image_features(FakeClip(), imageset, "train", 2, cache_dir=tmp_path, seed=3)
    image_features(FakeClip(), imageset, "test", cache_dir=tmp_path, indices=np.arange(7))
    image_features(FakeClip(1), imageset, "train", cache_dir=tmp_path, spatial=True)
    image_features(FakeClip(1), toy_set(10, fingerprint="cd" * 32), "train", cache_dir=tmp_path)
    return tmp_path


def test_every_table_is_listed_with_what_it_holds(filled):
    (filled / "notes.txt").touch()
    (filled / "toy-abababababab" / "stranger.f32").touch()
    listed = cache.cached_tables(filled)
    assert [(table.data, table.backbone, table.split, table.kind, table.rows) for table in listed] == [
        ("ab" * 6, "linear seed 0 000000", "test", "test view", 7),
        ("ab" * 6, "linear seed 0 000000", "train", "training views, seed 3", 80),
        ("ab" * 6, "linear seed 1 111111", "train", "test view, spatial", 40),
        ("cd" * 6, "linear seed 1 111111", "train", "test view", 10),
    ]
    assert {table.dataset for table in listed} == {"toy"}
    assert all(table.size > 0 and datetime.now() - table.modified < timedelta(minutes=1) for table in listed)
    assert cache.cached_tables(filled / "nowhere") == []


def test_backbone_that_is_not_noted_is_called_by_its_fingerprint(filled):
    (filled / "toy-abababababab" / f"{'0' * 12}.json").write_text("{")
    assert cache.cached_tables(filled)[0].backbone == "0" * 12


def test_a_note_that_a_kill_cut_short_is_not_there_and_is_written_later(tmp_path, monkeypatch):
    note = "0" * 64, "linear", "seed 0"

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pfedmoap.system.files.os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            cache.write_backbone(tmp_path, *note)
    assert not list(tmp_path.glob("*.json"))
    cache.write_backbone(tmp_path, *note)
    assert json.loads((tmp_path / f"{'0' * 12}.json").read_text())["model"] == "linear"


def test_pruned_tables_are_gone_and_the_others_stay(filled):
    (filled / "notes.txt").touch()
    chosen = cache.cached_tables(filled)[:3]
    assert cache.prune(chosen) == sum(table.size for table in chosen)
    assert [path.name for path in filled.iterdir() if path.is_dir()] == ["toy-cdcdcdcdcdcd"]
    assert (filled / "notes.txt").exists() and len(cache.cached_tables(filled)) == 1
    clip = FakeClip()
    image_features(clip, toy_set(40), "test", cache_dir=filled)  # and it can be filled again
    assert clip.batches == 1 and json.loads(next(filled.glob("*/000000000000.json")).read_text())["model"] == "linear"


def test_table_that_is_being_written_is_not_removed(filled):
    table = cache.cached_tables(filled)[0]
    with FileLock(table.path.with_suffix(".lock")):
        with pytest.raises(UserError, match="is being written by another process: wait for it or end it"):
            cache.prune([table])
    assert table.path.exists()
