"""The doctor finds what is wrong with a data set on disk, and says when nothing is."""

import dataclasses
import json

import more_sets
import numpy as np
import pytest
from layouts import write_classes, write_images
from PIL import Image
from toys import FakeClip

from pfedmoap import embedded
from pfedmoap.data import (
    ImageFiles,
    ImageSet,
    Split,
    catalog,
    contact_sheet,
    doctor,
    image_features,
    write_contact_sheet,
)
from pfedmoap.data.sheets import NAME_HEIGHT, THUMBNAIL
from pfedmoap.errors import UserError
from pfedmoap.experiments import diagnosis, load_dataset, published_zero_shot, worth_examining


def examine(name, root, tmp_path, **settings):
    return diagnosis.examine(name, root, tmp_path / "cache", progress=False, **settings)


def test_healthy_folders(tmp_path):
    write_classes(tmp_path / "mine", {"sea_lion": 10, "cat": 20})
    found = examine("folders", tmp_path / "mine", tmp_path)
    assert (found.found, found.classes, found.train, found.test) == (True, 2, 21, 9)
    assert found.names == "one folder per label, 2 of 2 called alike"
    assert (found.files, found.problems, found.cached) == ("files fine, 30 opened", (), ())
    assert found.published is None
    assert json.loads(json.dumps(dataclasses.asdict(found)))["fingerprint"] == found.fingerprint


def test_images_that_are_trained_on_and_tested_are_a_problem(tmp_path):
    names = sorted(path.name for path in _food(tmp_path).iterdir())
    rows = [[f"{name}/image_000{number}.jpg", label, name] for label, name in enumerate(names) for number in (1, 2)]
    split = tmp_path / "food-101/split_zhou_Food101.json"
    split.write_text(json.dumps({"train": rows[::2], "val": [], "test": rows[1::2]}))
    assert not [problem for problem in examine("food101", tmp_path, tmp_path).problems if "testing" in problem]
    split.write_text(json.dumps({"train": rows, "val": [], "test": rows[1::2]}))
    problems = examine("food101", tmp_path, tmp_path).problems
    assert any(problem.startswith("2 images are for training and for testing (") for problem in problems)


def _food(root):
    write_classes(root / "food-101/images", {"apple_pie": 2, "waffles": 2})
    return root / "food-101/images"


def test_what_is_missing_is_described_and_no_error(tmp_path):
    found = examine("flowers102", tmp_path, tmp_path)
    assert not found.found and "Flowers102 was not found under" in found.where and "102flowers.tgz" in found.where
    assert found.published == 62.17


def test_broken_files_are_found_by_opening_them(tmp_path):
    write_classes(tmp_path / "mine", {"cat": 100, "dog": 100})
    (tmp_path / "mine" / "cat" / "image_0007.jpg").write_bytes(b"oops")
    quick, full = (examine("folders", tmp_path / "mine", tmp_path, every_file=every) for every in (False, True))
    assert (quick.files, quick.problems) == ("files fine, 32 opened", ())
    assert full.files == "1 of 200 files broken, all opened"
    assert "image_0007.jpg cannot be read as an image" in full.problems[0]


def test_empty_files_are_problems_of_a_benchmark_and_left_out_of_folders(tmp_path):
    for root in ("caltech-101/101_ObjectCategories", "mine"):
        write_classes(tmp_path / root, {"cat": 10, "dog": 10})
        (tmp_path / root / "dog" / "image_0008.jpg").write_bytes(b"")
    found = examine("caltech101", tmp_path, tmp_path)
    assert any("image_0008.jpg is empty: replace or delete it" in problem for problem in found.problems)
    mine = examine("folders", tmp_path / "mine", tmp_path)
    assert (mine.problems, mine.train + mine.test) == ((), 19) and mine.where.endswith("; left out: 1 empty file")


def test_accents_that_are_stored_in_two_ways_are_called_alike(tmp_path):
    write_classes(tmp_path / "mine", {"cafe\u0301": 4, "th\u00e9": 4})
    assert examine("folders", tmp_path / "mine", tmp_path).names == "one folder per label, 2 of 2 called alike"


def test_incomplete_set_is_a_problem(tmp_path):
    write_classes(tmp_path / "caltech-101" / "101_ObjectCategories", {"Faces": 10, "airplanes": 10, "yin_yang": 10})
    found = examine("caltech101", tmp_path, tmp_path)
    assert found.names == "one folder per label, 1 of 3 called alike"  # the others are renamed
    assert found.problems == tuple(f"{what}: unpack the whole archive again" for what in (
        "3 classes were found instead of 100", "15 training images were found instead of 4,128",
        "9 test images were found instead of 2,465"))


def test_labels_that_do_not_match_folders(tmp_path):
    files = ["cat/1.png", "cat/2.png", "dog/1.png"]
    write_images(tmp_path, files)
    split = Split(ImageFiles(tmp_path / file for file in files), np.array([0, 1, 1]))
    finding, problems = doctor.alignment(ImageSet("toy", ("cat", "dog"), split, split, fingerprint="", source=""))
    assert finding == "labels and folders differ"
    assert problems == ("the folder 'cat' and its label do not belong to each other alone: unpack the set again",)


def test_sets_without_class_folders(tmp_path):
    write_images(tmp_path, ["1.png", "2.png"])
    split = Split(ImageFiles(tmp_path / f"{number}.png" for number in (1, 2)), np.array([0, 1]))
    listed = ImageSet("flowers102", ("rose", "tulip"), split, split, fingerprint="", source="")
    assert doctor.alignment(listed) == ("labels come from a list", ())
    drawn = examine("digits", None, tmp_path)
    assert (drawn.names, drawn.files) == ("labels come with the pixels", "no image files")


def test_shuffled_labels_are_no_list(tmp_path):
    files = [f"{name}/{k}.png" for name in ("ant", "bee", "cat") for k in range(3)]
    split = Split(ImageFiles(tmp_path / file for file in files), np.array([0, 1, 2] * 3))
    finding, _ = doctor.alignment(ImageSet("toy", ("ant", "bee", "cat"), split, split, fingerprint="", source=""))
    assert finding == "labels and folders differ"


@pytest.mark.parametrize(("name", "finding"), [
    ("eurosat", "one folder per label, 1 of 3 called alike"),
    ("stanford_cars", "labels come from a list"),
    ("fgvc_aircraft", "labels come from a list"),
    ("sun397", "one folder per label, 2 of 3 called alike"),
    ("ucf101", "one folder per label, 3 of 3 called alike"),
    ("imagenet", "one folder per label, 0 of 3 called alike"),
    ("imagenet_v2", "one folder per label, 0 of 3 called alike"),
    ("imagenet_a", "one folder per label, 0 of 2 called alike"),
    ("pacs", "one folder per label, 7 of 7 called alike"),
    ("office_home", "one folder per label, 3 of 3 called alike"),
])  # fmt: skip
def test_other_sets_are_aligned_and_lack_only_what_was_not_written(tmp_path, name, finding):
    more_sets.write_all(tmp_path)
    found = examine(name, tmp_path, tmp_path)
    assert (found.found, found.names, found.files.split(",")[0]) == (True, finding, "files fine")
    lacking = found.card.lacking(found.classes, len(load_dataset(name, tmp_path).domain_names), found.train, found.test)
    assert lacking and found.problems == lacking


def test_cached_features_are_those_of_this_content(tmp_path):
    write_classes(tmp_path / "mine", {"cat": 10})
    imageset = load_dataset("folders", tmp_path / "mine")
    image_features(FakeClip(), imageset, "train", 2, cache_dir=tmp_path / "cache", seed=1)
    image_features(FakeClip(), imageset, "test", cache_dir=tmp_path / "cache")
    lines = ("linear seed 0 000000: test test view 3, train training views, seed 1 14",)
    assert examine("folders", tmp_path / "mine", tmp_path).cached == lines
    write_classes(tmp_path / "mine", {"dog": 3})
    assert examine("folders", tmp_path / "mine", tmp_path).cached == ()


def test_published_scores_are_there_for_all_nine():
    scores = [published_zero_shot(name) for name in diagnosis.PUBLISHED]
    assert scores == [62.17, 84.47, 75.27, 85.14, 40.21, 53.46, 32.68, 9.81, 9.40]
    assert list(diagnosis.PUBLISHED) == list(catalog.ON_DISK)[:9]
    assert worth_examining(None) == embedded.NAMES and "folders" not in worth_examining("somewhere")


def test_contact_sheet_shows_every_class(tmp_path):
    imageset = load_dataset("mixed40")
    sheet = contact_sheet(imageset, per_class=2)
    assert np.asarray(sheet).std() > 10
    assert sheet.width * sheet.height > len(imageset.class_names) * 2 * THUMBNAIL * (THUMBNAIL + NAME_HEIGHT)
    write_contact_sheet(imageset, tmp_path / "new" / "sheet.png")
    with Image.open(tmp_path / "new" / "sheet.png") as written:
        assert 1 < written.width / written.height < 2


def test_contact_sheet_with_few_images_and_long_names(tmp_path):
    write_classes(tmp_path, {"cat": 2, "a very long name of a class that does not fit its cell at all": 9})
    assert contact_sheet(load_dataset("folders", tmp_path)).width > THUMBNAIL


@pytest.mark.parametrize(("name", "message"), [("sheet", "call it sheet.png"), ("file/x.png", "cannot be written")])
def test_contact_sheet_that_cannot_be_written(tmp_path, name, message):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=message):
        write_contact_sheet(load_dataset("digits"), tmp_path / name)
