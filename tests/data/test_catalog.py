"""Loading by name: what is there, and what is said when something is not."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from layouts import write_classes, write_image

from pfedmoap.embedded import NAMES
from pfedmoap.errors import UserError
from pfedmoap.experiments import dataset_names, load_dataset

COUNTS = {
    "BACKGROUND_Google": 4,
    "Faces": 10,
    "Faces_easy": 10,
    "Leopards": 10,
    "Motorbikes": 10,
    "airplanes": 10,
    "yin_yang": 5,
    "anchor": 3,
}
CLASS_NAMES = ("face", "leopard", "motorbike", "airplane", "anchor", "yin yang")
FOLDERS = ("Faces", "Leopards", "Motorbikes", "airplanes", "anchor", "yin_yang")


@pytest.fixture
def caltech(tmp_path):
    write_classes(tmp_path / "caltech-101" / "101_ObjectCategories", COUNTS)
    return tmp_path


def assert_names_match_labels(imageset):
    """Every image's folder is the one that its label's name stands for, in both splits."""
    folder_of = dict(zip(CLASS_NAMES, FOLDERS, strict=True))
    for split in (imageset.train, imageset.test):
        assert split.labels.dtype == np.int64
        for path, label in zip(map(Path, split.images.paths), split.labels, strict=True):
            assert path.parent.name == folder_of[imageset.class_names[label]]


def test_caltech_without_split_file_follows_coops_rule(caltech):
    imageset = load_dataset("caltech101", caltech)
    assert imageset.class_names == CLASS_NAMES
    assert_names_match_labels(imageset)
    assert np.bincount(imageset.train.labels).tolist() == [5, 5, 5, 5, 2, 2]
    assert np.bincount(imageset.test.labels).tolist() == [3, 3, 3, 3, 1, 2]
    assert not set(imageset.train.images.paths) & set(imageset.test.images.paths)
    assert "not CoOp's split" in imageset.source
    assert imageset.augment
    assert imageset.train.images[0].mode == "RGB"


def test_caltech_is_found_from_any_root_and_keeps_its_fingerprint(caltech, tmp_path_factory):
    torchvisions = tmp_path_factory.mktemp("torchvision")
    write_classes(torchvisions / "caltech101" / "101_ObjectCategories", COUNTS)
    roots = [
        caltech,
        caltech / "caltech-101",
        caltech / "caltech-101" / "101_ObjectCategories",
        torchvisions,
        torchvisions / "caltech101",
    ]
    sets = [load_dataset("caltech101", root) for root in roots]
    assert len({imageset.fingerprint for imageset in sets}) == 1
    assert len({tuple(imageset.train.labels) for imageset in sets}) == 1


def test_relative_root_inside_the_data_set(caltech, monkeypatch):
    monkeypatch.chdir(caltech / "caltech-101" / "101_ObjectCategories")
    assert load_dataset("caltech101", ".").class_names == CLASS_NAMES


def test_fingerprint_follows_the_content(caltech):
    before = load_dataset("caltech101", caltech).fingerprint
    file = caltech / "caltech-101" / "101_ObjectCategories" / "anchor" / "image_0001.jpg"
    file.write_bytes(file.read_bytes() + b"more")
    changed = load_dataset("caltech101", caltech).fingerprint
    file.rename(file.with_name("image_0009.jpg"))
    assert len({before, changed, load_dataset("caltech101", caltech).fingerprint}) == 3


def write_split(caltech, rows, **parts):
    path = caltech / "caltech-101" / "split_zhou_Caltech101.json"
    path.write_text(json.dumps({"train": rows, "val": [], "test": rows, **parts}))


def rows_of(number):
    return [
        [f"{folder}/image_{number:04d}.jpg", label, name.replace(" ", "_")]
        for label, (folder, name) in enumerate(zip(FOLDERS, CLASS_NAMES, strict=True))
    ]


def test_split_file_wins(caltech):
    write_split(caltech, rows_of(1), val=rows_of(2), test=rows_of(3)[::-1])
    imageset = load_dataset("caltech101", caltech)
    assert imageset.class_names == CLASS_NAMES
    assert_names_match_labels(imageset)
    assert imageset.train.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert imageset.test.labels.tolist() == [5, 4, 3, 2, 1, 0]
    assert {Path(path).name for path in imageset.train.images.paths} == {"image_0001.jpg"}
    assert {Path(path).name for path in imageset.test.images.paths} == {"image_0003.jpg"}
    assert imageset.source.endswith("CoOp's split (split_zhou_Caltech101.json)")


def test_split_file_with_images_that_are_not_there(caltech):
    write_split(caltech, rows_of(1), test=rows_of(4))
    with pytest.raises(UserError, match=r"1 of 6 listed images are missing .*first: anchor/image_0004.jpg.*unpack"):
        load_dataset("caltech101", caltech)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["Faces/image_0002.jpg", 0, "leopard"], "pairs labels and class names in two ways"),
        (["Faces/image_0002.jpg", 1, "leopard"], "pairs labels and class names in two ways"),
        (["Leopards/image_0002.jpg", 0, "face"], "pairs labels and class names in two ways"),
        (["anchor/image_0002.jpg", 7, "ancre"], "are not 0, 1, 2"),
        (["anchor/image_0002.jpg", 4], "cannot be read"),
        (["../../anchor.jpg", 4, "anchor"], "points outside"),
        (["/etc/anchor.jpg", 4, "anchor"], "points outside"),
    ],
)
def test_split_file_that_cannot_be_right(caltech, row, message):
    write_split(caltech, [*rows_of(1), row])
    with pytest.raises(UserError, match=message):
        load_dataset("caltech101", caltech)


def test_split_file_that_was_cut_off(caltech):
    (caltech / "caltech-101" / "split_zhou_Caltech101.json").write_text('{"train": [["Faces/ima')
    with pytest.raises(UserError, match="split_zhou_Caltech101.json cannot be read .*download it again or remove it"):
        load_dataset("caltech101", caltech)


def test_empty_class_folder(caltech):
    (caltech / "caltech-101" / "101_ObjectCategories" / "empty").mkdir()
    (caltech / "caltech-101" / "101_ObjectCategories" / "empty" / ".DS_Store").touch()
    with pytest.raises(UserError, match="101_ObjectCategories/empty has no images: fill it or remove it"):
        load_dataset("caltech101", caltech)


def test_class_with_a_single_image(caltech):
    write_classes(caltech / "caltech-101" / "101_ObjectCategories", {"lonely": 1})
    with pytest.raises(UserError, match="class 'lonely' of caltech101 has a single image"):
        load_dataset("caltech101", caltech)


def test_folder_without_classes(tmp_path):
    (tmp_path / "caltech-101" / "101_ObjectCategories").mkdir(parents=True)
    with pytest.raises(UserError, match="101_ObjectCategories has no class folders: unpack the images there"):
        load_dataset("caltech101", tmp_path)


def test_two_folders_that_mean_the_same_name(caltech):
    write_classes(caltech / "caltech-101" / "101_ObjectCategories", {"yin yang": 5})
    with pytest.raises(UserError, match="two classes of caltech101 are called 'yin yang'"):
        load_dataset("caltech101", caltech)


def test_odd_files_are_survived(caltech):
    folder = caltech / "caltech-101" / "101_ObjectCategories"
    before = load_dataset("caltech101", caltech).fingerprint
    (folder / "README.txt").write_text("hello")
    (folder / "Faces" / "notes.txt").write_text("hello")
    (folder / ".hidden").mkdir()
    (folder / "Faces" / "up").symlink_to(folder)
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "Faces" / "loop.jpg").symlink_to(folder / "Faces" / "loop.jpg")
    (folder / "Faces" / "dangling.jpg").symlink_to(folder / "nowhere.jpg")
    assert load_dataset("caltech101", caltech).fingerprint == before


def test_odd_names_are_read(caltech):
    folder = caltech / "caltech-101" / "101_ObjectCategories"
    before = load_dataset("caltech101", caltech)
    for name in ("ümlaut — %20 'quoted'.JPG", "line\nbreak.jpg", os.fsdecode(b"not \xff utf-8.jpeg")):
        write_image(folder / "Faces" / name)
    after = load_dataset("caltech101", caltech)
    assert len(after.train) + len(after.test) > len(before.train) + len(before.test)
    assert after.fingerprint != before.fingerprint
    assert all(image.size == (8, 8) for split in (after.train, after.test) for image in split.images)


def test_folder_that_cannot_be_listed(caltech, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"101_ObjectCategories cannot be read \(Permission denied\): check its"):
        load_dataset("caltech101", caltech)


def test_data_set_that_is_not_there_says_where_to_get_it(tmp_path):
    looked_for = "caltech-101/101_ObjectCategories and caltech101/101_ObjectCategories"
    with pytest.raises(UserError, match=f"not found under .*{looked_for}.*https://data.caltech.edu"):
        load_dataset("caltech101", tmp_path)


def test_no_root_and_missing_root(tmp_path):
    with pytest.raises(UserError, match=r"caltech101 is read from disk: say which folder holds it \(--data-root DIR\)"):
        load_dataset("caltech101")
    with pytest.raises(UserError, match="the data root .*/nowhere is not a folder"):
        load_dataset("caltech101", tmp_path / "nowhere")


def test_unknown_name_suggests_the_closest():
    with pytest.raises(UserError, match="'caltech_101'; did you mean 'caltech101'\\?"):
        load_dataset("caltech_101")
    with pytest.raises(UserError, match="'qqqq'; known: animals, .*folders"):
        load_dataset("qqqq")


def test_embedded_sets_need_no_root():
    assert set(NAMES) < set(dataset_names())
    assert load_dataset("digits").class_names[0] == "digit zero"
    assert load_dataset("digits-validation").fingerprint != load_dataset("digits").fingerprint
