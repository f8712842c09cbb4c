"""ImageNet and its test sets: folders are listed and no file is looked at, and names follow the classes."""

import os
from pathlib import Path

import more_sets
import numpy as np
import pytest
from more_sets import SYNSETS

from pfedmoap.data.catalog import imagenet
from pfedmoap.errors import UserError
from pfedmoap.experiments import load_dataset

NAMES = ("tench", "missile", "projectile")


def synsets_of(split):
    return [Path(path).parent.name for path in split.images.paths]


@pytest.mark.parametrize("folder", ["imagenet/images", "imagenet"])
def test_imagenet_is_tested_on_its_validation_images(tmp_path, folder):
    more_sets.imagenet(tmp_path, folder)
    imageset = load_dataset("imagenet", tmp_path)
    assert imageset.class_names == NAMES
    for split, count, part in ((imageset.train, 4, "train"), (imageset.test, 2, "val")):
        assert np.bincount(split.labels).tolist() == [count] * 3
        assert synsets_of(split) == [SYNSETS[label] for label in split.labels]
        assert all(f"/{folder}/{part}/" in path for path in split.images.paths)
    assert imageset.test.images[0].mode == "RGB"


def test_fingerprint_survives_another_layout_and_follows_the_files(tmp_path):
    for root, folder in (("a", "imagenet/images"), ("b", "imagenet")):
        more_sets.imagenet(tmp_path / root, folder)
    first, second = (load_dataset("imagenet", tmp_path / root).fingerprint for root in "ab")
    (tmp_path / "b" / "imagenet" / "val" / SYNSETS[0] / "image_0001.jpg").unlink()
    assert first == second != load_dataset("imagenet", tmp_path / "b").fingerprint


def test_no_file_is_looked_at(tmp_path, monkeypatch):
    more_sets.imagenet(tmp_path)
    looked_at = []
    stat = os.stat

    def watched(path, **settings):
        looked_at.append(str(path))
        return stat(path, **settings)

    monkeypatch.setattr(os, "stat", watched)
    load_dataset("imagenet", tmp_path)
    assert looked_at and [path for path in looked_at if path.endswith(".jpg")] == []


def test_classnames_of_coop_come_first(tmp_path):
    more_sets.imagenet(tmp_path)
    path = tmp_path / "imagenet" / "classnames.txt"
    path.write_text("n01440764 a fish\nn03773504 missile\nn04008634 missile\n")
    assert load_dataset("imagenet", tmp_path).class_names == ("a fish", "missile", "projectile")
    path.write_text("n01440764 a fish\n")
    with pytest.raises(UserError, match="no name is known of the class n03773504 in .*: add it to classnames.txt"):
        load_dataset("imagenet", tmp_path)
    path.write_text("n01440764\n")
    with pytest.raises(UserError, match="classnames.txt cannot be read"):
        load_dataset("imagenet", tmp_path)


def test_clips_names_are_told_apart():
    names = imagenet._class_names(Path("nowhere"))
    assert len(names) == len(set(names.values())) == 1000
    assert [names[synset] for synset in ("n04355933", "n04356056")] == ["sunglass", "sunglasses"]


@pytest.mark.parametrize(("name", "kept"), [
    ("imagenet_v2", (0, 1, 2)), ("imagenet_sketch", (0, 1, 2)), ("imagenet_a", (1, 2)), ("imagenet_r", (0, 1)),
])  # fmt: skip
def test_test_sets_train_on_imagenets_images_of_their_classes(tmp_path, name, kept):
    more_sets.write_all(tmp_path)
    imageset, whole = (load_dataset(each, tmp_path) for each in (name, "imagenet"))
    assert imageset.class_names == tuple(NAMES[k] for k in kept)
    assert set(imageset.train.images.paths) == {
        path for path, label in zip(whole.train.images.paths, whole.train.labels, strict=True) if label in kept}
    assert np.bincount(imageset.test.labels).tolist() == [3] * len(kept)
    folder_of = more_sets.NUMBERS if name == "imagenet_v2" else SYNSETS
    assert synsets_of(imageset.train) == [SYNSETS[kept[label]] for label in imageset.train.labels]
    assert synsets_of(imageset.test) == [folder_of[kept[label]] for label in imageset.test.labels]


def test_numbers_count_all_of_imagenets_classes_even_if_some_are_not_there(tmp_path):
    """V2's folder 657 is the missile, whatever else has been unpacked: its place among the folders says nothing."""
    more_sets.write_all(tmp_path)
    (tmp_path / "imagenetv2" / "imagenetv2-matched-frequency-format-val" / "0").rename(tmp_path / "elsewhere")
    assert load_dataset("imagenet_v2", tmp_path).class_names == NAMES[1:]


def test_what_is_missing(tmp_path):
    more_sets.imagenet_v2(tmp_path)
    with pytest.raises(UserError, match="ImageNet was not found under .*https://image-net.org"):
        load_dataset("imagenet_v2", tmp_path)
    more_sets.imagenet(tmp_path)
    with pytest.raises(UserError, match="ImageNet-A was not found under .*imagenet-adversarial/imagenet-a.*beside"):
        load_dataset("imagenet_a", tmp_path)
    (tmp_path / "imagenet" / "images" / "train" / SYNSETS[0]).rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="train/n01440764 is missing"):
        load_dataset("imagenet_v2", tmp_path)
    with pytest.raises(UserError, match="has n01440764 only in train or only in val"):
        load_dataset("imagenet", tmp_path)
    (tmp_path / "imagenet" / "images" / "val").rename(tmp_path / "val")
    with pytest.raises(UserError, match="images/val is missing: put ImageNet's images there"):
        load_dataset("imagenet", tmp_path)


def test_folders_that_are_no_class_of_imagenet(tmp_path):
    more_sets.imagenet(tmp_path)
    more_sets.imagenet_v2(tmp_path)
    folder = tmp_path / "imagenetv2" / "imagenetv2-matched-frequency-format-val"
    (folder / "0").rename(folder / "1000")
    with pytest.raises(UserError, match="1000 is none of ImageNet's 1,000 classes"):
        load_dataset("imagenet_v2", tmp_path)
