"""The feature cache: right features, computed once, whatever happens in between."""

import errno
import mmap
import multiprocessing
import os
import shutil
import signal
import time
from collections import namedtuple

import numpy as np
import pytest
import torch
from layouts import write_image
from toys import FakeClip, expected, toy_set

from pfedmoap.data import ImageFiles, ImageSet, Split, image_features
from pfedmoap.data import features as features_module
from pfedmoap.data.features import BATCH
from pfedmoap.embedded import sets
from pfedmoap.errors import PfedmoapError, UserError


def test_test_view_equals_encoding_by_hand(tmp_path):
    clip, imageset = FakeClip(), toy_set()
    for split in ("train", "test"):
        found = image_features(clip, imageset, split, cache_dir=tmp_path)
        assert found.shape == (1, len(getattr(imageset, split)), 5)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found[0], expected(clip, getattr(imageset, split).images), rtol=1e-6, atol=1e-7)


def test_second_call_computes_nothing_and_reads_the_same(tmp_path):
    clip, imageset = FakeClip(), toy_set()
    first = image_features(clip, imageset, "train", cache_dir=tmp_path).copy()
    batches, asked = clip.batches, len(imageset.train.images.asked)
    second = image_features(clip, imageset, "train", cache_dir=tmp_path)
    assert np.array_equal(first, second)
    assert (clip.batches, len(imageset.train.images.asked)) == (batches, asked)
    assert not second.flags.writeable
    while isinstance(second, np.ndarray):
        second = second.base
    assert isinstance(second, mmap.mmap)


@pytest.mark.parametrize("name", ["digits", "caltech40"])
def test_features_of_an_embedded_set_are_those_of_its_images(tmp_path, name):
    clip, imageset = FakeClip(), sets.load(name)
    some = np.arange(0, len(imageset.test), 9)
    found = image_features(clip, imageset, "test", cache_dir=tmp_path, indices=some)
    singles = [imageset.test.images[int(index)] for index in some]
    np.testing.assert_allclose(found[0, some], expected(clip, singles), rtol=1e-5, atol=1e-6)


def test_spatial_features_have_a_table_of_their_own(tmp_path):
    clip, imageset = FakeClip(), toy_set(BATCH + 5)
    plain = image_features(clip, imageset, "train", 2, cache_dir=tmp_path, seed=1).copy()
    spatial = image_features(clip, imageset, "train", 2, cache_dir=tmp_path, seed=1, spatial=True)
    assert spatial.shape == (2, BATCH + 5, 4, 5) and spatial.dtype == np.float32
    assert np.array_equal(spatial[:, :, 0], plain)
    assert np.abs(spatial[:, :, 1] - plain).max() > 0.01
    batches = clip.batches
    assert np.array_equal(image_features(clip, imageset, "train", 2, cache_dir=tmp_path, seed=1, spatial=True), spatial)
    assert np.array_equal(image_features(clip, imageset, "train", 2, cache_dir=tmp_path, seed=1), plain)
    assert clip.batches == batches


def test_spatial_test_view_equals_encoding_by_hand(tmp_path, tiny_clip):
    imageset = toy_set(40)
    found = image_features(tiny_clip, imageset, "test", cache_dir=tmp_path, spatial=True)
    images = torch.stack([tiny_clip.preprocess(image) for image in imageset.test.images])
    assert found.shape == (1, 20, 16, 32)  # 4 x 4 patches
    np.testing.assert_allclose(found[0], tiny_clip.encode_spatial(images).numpy(), rtol=1e-5, atol=1e-6)


def test_weights_data_and_split_have_their_own_features(tmp_path):
    clip, other_clip, imageset, other_set = FakeClip(), FakeClip(1), toy_set(), toy_set(fingerprint="cd" * 32)
    image_features(clip, imageset, "train", cache_dir=tmp_path)
    for a, b, split in ((other_clip, imageset, "train"), (clip, other_set, "train"), (clip, imageset, "test")):
        before = a.batches
        image_features(a, b, split, cache_dir=tmp_path)
        assert a.batches > before


def test_views_depend_on_seed_image_and_view_alone(tmp_path):
    clip, imageset = FakeClip(), toy_set(20)
    two = image_features(clip, imageset, "train", 2, cache_dir=tmp_path / "a", seed=1).copy()
    assert two.shape == (2, 20, 5)
    assert np.abs(two[0] - two[1]).max() > 0.01
    asked = len(imageset.train.images.asked)
    three = image_features(clip, imageset, "train", 3, cache_dir=tmp_path / "a", seed=1)
    assert len(imageset.train.images.asked) == asked + 20  # only the third view
    assert np.array_equal(three[:2], two)
    at_once = image_features(clip, imageset, "train", 3, cache_dir=tmp_path / "b", seed=1, indices=np.array([4, 17]))
    assert np.array_equal(at_once[:, [4, 17]], three[:, [4, 17]])
    other_seed = image_features(clip, imageset, "train", 1, cache_dir=tmp_path / "a", seed=2)
    assert np.abs(other_seed[0] - two[0]).max() > 0.01
    assert np.array_equal(image_features(clip, imageset, "train", 1, cache_dir=tmp_path / "a", seed=1), two[:1])


def test_an_image_is_decoded_once_for_all_its_views(tmp_path):
    clip, imageset = FakeClip(), toy_set(n=10)
    found = image_features(clip, imageset, "train", 40, cache_dir=tmp_path)
    assert imageset.train.images.asked == list(range(10))
    again = image_features(clip, toy_set(n=10), "train", 40, cache_dir=tmp_path / "one by one", indices=np.array([7]))
    assert np.array_equal(found[:, 7], again[:, 7])


def test_sets_without_augmentation_have_the_test_view_in_every_view(tmp_path):
    clip, imageset = FakeClip(), toy_set(augment=False)
    plain = image_features(clip, imageset, "train", cache_dir=tmp_path)
    batches = clip.batches
    views = image_features(clip, imageset, "train", 4, cache_dir=tmp_path, seed=7)
    assert views.shape == (4, 150, 5)
    assert all(np.array_equal(view, plain[0]) for view in views)
    assert clip.batches == batches


def test_only_the_images_asked_for_are_computed(tmp_path):
    clip, imageset = FakeClip(), toy_set()
    some = image_features(clip, imageset, "train", cache_dir=tmp_path, indices=np.array([3, 77, 149]))[0, [3, 77, 149]]
    assert imageset.train.images.asked == [3, 77, 149]
    everything = image_features(clip, imageset, "train", cache_dir=tmp_path)
    assert len(imageset.train.images.asked) == 150
    assert np.array_equal(everything[0, [3, 77, 149]], some)


def test_features_do_not_depend_on_what_was_cached_before(tmp_path, tiny_clip):
    imageset = toy_set(70)
    at_once = image_features(tiny_clip, imageset, "train", cache_dir=tmp_path / "a")
    image_features(tiny_clip, imageset, "train", cache_dir=tmp_path / "b", indices=np.array([5, 69]))
    in_two_steps = image_features(tiny_clip, imageset, "train", cache_dir=tmp_path / "b")
    assert np.array_equal(at_once, in_two_steps)


def damage(folder):
    """Flips a byte in the row of image 5 and in the row of image 9."""
    (path,) = folder.glob("*/*.f32")
    content = bytearray(path.read_bytes())
    for image in (5, 9):
        content[image * 5 * 4 + 2] ^= 1
    path.write_bytes(content)


def test_damaged_rows_are_computed_again_with_a_warning(tmp_path):
    clip, imageset = FakeClip(), toy_set()
    right = image_features(clip, imageset, "train", cache_dir=tmp_path).copy()
    damage(tmp_path)
    del imageset.train.images.asked[:]
    with pytest.warns(UserWarning, match=r"damaged rows in .*\.f32 are computed again \(2\)"):
        found = image_features(clip, imageset, "train", cache_dir=tmp_path)
    assert np.array_equal(found, right)
    assert imageset.train.images.asked == [5, 9]


@pytest.mark.parametrize("suffix", ["f32", "crc32"])
@pytest.mark.filterwarnings("ignore:damaged rows")
def test_deleted_or_cut_file_is_made_again(tmp_path, suffix):
    clip, imageset = FakeClip(), toy_set()
    right = image_features(clip, imageset, "train", cache_dir=tmp_path).copy()
    (path,) = tmp_path.glob(f"*/*.{suffix}")
    os.truncate(path, 100)
    assert np.array_equal(image_features(clip, imageset, "train", cache_dir=tmp_path), right)
    path.unlink()
    assert np.array_equal(image_features(clip, imageset, "train", cache_dir=tmp_path), right)


def test_broken_image_is_named_and_finished_batches_are_kept(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(BATCH + 10)]
    for shade, path in enumerate(paths):
        write_image(path, shade)
    broken = paths[BATCH + 3]
    broken.write_bytes(b"oops")
    split = Split(ImageFiles(paths), np.zeros(len(paths), dtype=np.int64))
    imageset = ImageSet("files", ("thing",), split, split, fingerprint="ef" * 32, source="")
    clip = FakeClip()
    with pytest.raises(UserError, match=rf"{broken.name} cannot be read .*delete or replace it, then run again"):
        image_features(clip, imageset, "train", cache_dir=tmp_path / "cache")
    assert clip.batches == 1
    write_image(broken, 3)
    image_features(clip, imageset, "train", cache_dir=tmp_path / "cache")
    assert clip.batches == 2


def test_worker_processes_give_the_same_features_and_the_same_error(tmp_path, monkeypatch):
    paths = [tmp_path / f"{i}.png" for i in range(2 * BATCH)]
    for shade, path in enumerate(paths):
        write_image(path, shade)
    split = Split(ImageFiles(paths), np.zeros(len(paths), dtype=np.int64))
    imageset = ImageSet("files", ("thing",), split, split, fingerprint="ef" * 32, source="")
    alone = image_features(FakeClip(), imageset, "train", 1, cache_dir=tmp_path / "alone", seed=1)
    monkeypatch.setattr(features_module, "MANY_IMAGES", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    assert np.array_equal(image_features(FakeClip(), imageset, "train", 1, cache_dir=tmp_path / "w", seed=1), alone)
    paths[BATCH + 6].unlink()
    with pytest.raises(UserError) as caught:
        image_features(FakeClip(), imageset, "train", cache_dir=tmp_path / "w")
    assert str(caught.value) == f"{paths[BATCH + 6]} is missing: put it back, then run again"


def in_another_process(cache_dir, delay):
    image_features(FakeClip(delay=delay), toy_set(10 * BATCH), "train", cache_dir=cache_dir, progress=False)


def test_killed_process_leaves_its_finished_batches(tmp_path):
    worker = multiprocessing.get_context("fork").Process(target=in_another_process, args=(tmp_path, 0.05))
    worker.start()
    deadline = time.monotonic() + 10
    while not any(path.read_bytes()[3 * BATCH * 4 :].strip(b"\0") for path in tmp_path.glob("*/*.crc32")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    clip, imageset = FakeClip(), toy_set(10 * BATCH)
    found = image_features(clip, imageset, "train", cache_dir=tmp_path)
    assert 1 <= clip.batches <= 7
    np.testing.assert_allclose(found[0], expected(clip, imageset.train.images), rtol=1e-5, atol=1e-6)


def test_processes_that_ask_at_once_compute_once(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=in_another_process, args=(tmp_path, 0.02)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    clip, imageset = FakeClip(), toy_set(10 * BATCH)
    found = image_features(clip, imageset, "train", cache_dir=tmp_path)
    assert clip.batches == 0
    np.testing.assert_allclose(found[0], expected(clip, imageset.train.images), rtol=1e-5, atol=1e-6)


def test_too_small_disk_is_refused_with_the_number(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 2000, 2000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    clip = FakeClip()
    with pytest.raises(UserError, match=r"the features of toy train take 4 MB .* has 0 MB free: make room"):
        image_features(clip, toy_set(1500), "train", 100, cache_dir=tmp_path)
    assert clip.batches == 0


def test_disk_that_runs_full_keeps_what_was_written(tmp_path, monkeypatch):
    clip, imageset = FakeClip(), toy_set()
    write = features_module.FeatureTable.write

    def write_until_full(table, jobs, rows):
        if jobs[0][1] >= BATCH:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(table, jobs, rows)

    with monkeypatch.context() as patch:
        patch.setattr(features_module.FeatureTable, "write", write_until_full)
        with pytest.raises(UserError, match=r"cannot be written \(No space left on device\): make room"):
            image_features(clip, imageset, "train", cache_dir=tmp_path)
    del imageset.train.images.asked[:]
    image_features(clip, imageset, "train", cache_dir=tmp_path)
    assert imageset.train.images.asked == list(range(BATCH, 150))


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="the feature cache .*file/toy-abababababab cannot be written"):
        image_features(FakeClip(), toy_set(), "train", cache_dir=tmp_path / "file")


def test_complete_cache_is_read_without_writing(tmp_path, monkeypatch):
    clip, imageset = FakeClip(), toy_set()
    image_features(clip, imageset, "train", cache_dir=tmp_path)
    monkeypatch.setattr(features_module.FeatureTable, "locked", lambda table: pytest.fail("the cache was locked"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    image_features(clip, imageset, "train", cache_dir=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_features_that_are_not_finite_are_refused(tmp_path):
    clip = FakeClip()
    clip.map[0, 0] = float("nan")
    with pytest.raises(PfedmoapError, match="features that are not finite"):
        image_features(clip, toy_set(), "train", cache_dir=tmp_path)


def test_progress_is_silent_when_it_is_quick_or_not_wanted(tmp_path, capfd):
    image_features(FakeClip(), toy_set(), "train", cache_dir=tmp_path / "quick")
    image_features(FakeClip(delay=0.4), toy_set(5 * BATCH), "test", cache_dir=tmp_path / "unwanted", progress=False)
    assert capfd.readouterr() == ("", "")
    image_features(FakeClip(delay=0.4), toy_set(10 * BATCH), "test", cache_dir=tmp_path / "slow")
    out, err = capfd.readouterr()
    assert out == ""
    assert "features of toy test" in err
    assert "images/s" in err
