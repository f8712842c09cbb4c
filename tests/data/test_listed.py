"""StanfordCars, FGVC-Aircraft, SUN397 and UCF101: CoOp's split files, their own lists, and what is wrong with these."""

import json
from pathlib import Path

import more_sets
import numpy as np
import pytest
from layouts import write_images
from more_sets import ACTIONS, SCENES, VARIANTS

from pfedmoap.errors import UserError
from pfedmoap.experiments import load_dataset

CARS = ("2000 AM General Hummer SUV", "2012 Ram C-V Cargo Van Minivan", "2012 smart fortwo Convertible")


def assert_counts(imageset, train, test):
    classes = len(imageset.class_names)
    for split, count in ((imageset.train, train), (imageset.test, test)):
        assert np.bincount(split.labels, minlength=classes).tolist() == [count] * classes
    assert not set(imageset.train.images.paths) & set(imageset.test.images.paths)
    assert imageset.train.images[0].mode == "RGB"


def test_cars_follow_their_annotations(tmp_path):
    more_sets.stanford_cars(tmp_path)
    imageset = load_dataset("stanford_cars", tmp_path)
    assert imageset.class_names == CARS
    assert_counts(imageset, 4, 2)
    for split, part in ((imageset.train, "cars_train"), (imageset.test, "cars_test")):
        for path, label in zip(map(Path, split.images.paths), split.labels, strict=True):
            assert path.parent.name == part and (int(path.stem) - 1) % 3 == label
    assert "cars_test_annos_withlabels.mat, and 80 % of devkit/cars_train_annos.mat" in imageset.source


def test_cars_by_coops_split(tmp_path):
    write_images(tmp_path / "stanford_cars", ["cars_train/00001.jpg", "cars_train/00002.jpg", "cars_test/00001.jpg"])
    rows = [["cars_train/00001.jpg", 0, CARS[0]], ["cars_train/00002.jpg", 1, CARS[1]]]
    content = {"train": rows, "val": [], "test": [["cars_test/00001.jpg", 1, CARS[1]]]}
    (tmp_path / "stanford_cars" / "split_zhou_StanfordCars.json").write_text(json.dumps(content))
    imageset = load_dataset("stanford_cars", tmp_path)
    assert imageset.class_names == CARS[:2] and imageset.test.labels.tolist() == [1]
    assert imageset.source.endswith("CoOp's split (split_zhou_StanfordCars.json)")


@pytest.mark.parametrize(("numbers", "message"), [
    ([0, 1, 2, 3], "cars_train_annos.mat cannot be read .*there is no class 0"),
    ([1, 2, 3, 4], "cars_train_annos.mat cannot be read"),
    ([1, 1, 2, 2], "cars_train_annos.mat has no image of 'smart fortwo Convertible 2012'"),
])  # fmt: skip
def test_annotations_that_do_not_fit_the_models(tmp_path, numbers, message):
    more_sets.stanford_cars(tmp_path)
    more_sets.write_cars(tmp_path / "stanford_cars" / "devkit" / "cars_train_annos.mat", numbers)
    with pytest.raises(UserError, match=message):
        load_dataset("stanford_cars", tmp_path)


def test_cars_without_a_file(tmp_path):
    more_sets.stanford_cars(tmp_path)
    (tmp_path / "stanford_cars" / "cars_test" / "00003.jpg").unlink()
    with pytest.raises(UserError, match="1 of 6 listed images are missing in .*first: cars_test/00003.jpg"):
        load_dataset("stanford_cars", tmp_path)
    (tmp_path / "stanford_cars" / "devkit" / "cars_meta.mat").unlink()
    with pytest.raises(UserError, match="cars_meta.mat cannot be read"):
        load_dataset("stanford_cars", tmp_path)


@pytest.mark.parametrize("folder", ["fgvc_aircraft", "fgvc_aircraft/data", "fgvc-aircraft-2013b/data"])
def test_aircraft_use_the_official_lists(tmp_path, folder):
    more_sets.fgvc_aircraft(tmp_path, folder)
    imageset = load_dataset("fgvc_aircraft", tmp_path)
    assert imageset.class_names == VARIANTS
    assert_counts(imageset, 1, 1)
    assert [Path(path).stem for path in imageset.test.images.paths] == ["0000006", "0000007", "0000008"]
    assert imageset.source.endswith("the official split")


def test_aircraft_with_a_list_of_others(tmp_path):
    more_sets.fgvc_aircraft(tmp_path)
    with open(tmp_path / "fgvc_aircraft" / "images_variant_test.txt", "a") as file:
        file.write("0000001 Zeppelin NT\n")
    with pytest.raises(UserError, match="images_variant_test.txt has the class 'Zeppelin NT', which"):
        load_dataset("fgvc_aircraft", tmp_path)
    (tmp_path / "fgvc_aircraft" / "images_variant_test.txt").write_text("".join(f"../1 {v}\n" for v in VARIANTS))
    with pytest.raises(UserError, match="images_variant_test.txt points outside its folder"):
        load_dataset("fgvc_aircraft", tmp_path)


def test_scenes_by_the_first_partition(tmp_path):
    more_sets.sun397(tmp_path)
    imageset = load_dataset("sun397", tmp_path)
    assert imageset.class_names == ("abbey", "outdoor apartment building", "kindergarden classroom")
    assert_counts(imageset, 4, 5)
    for path, label in zip(imageset.test.images.paths, imageset.test.labels, strict=True):
        assert f"/SUN397/{SCENES[label]}/" in path and int(path[-8:-4]) > 5
    assert "Testing_01.txt, and 80 % of Training_01.txt" in imageset.source


def test_scenes_as_torchvision_has_them_are_divided(tmp_path):
    more_sets.sun397(tmp_path, lists=False)
    imageset = load_dataset("sun397", tmp_path)
    assert_counts(imageset, 5, 3)
    assert "50/20/30 %" in imageset.source


def test_scenes_by_coops_split_which_has_many_folders_of_one_name(tmp_path):
    files = ["a/amusement_park/outdoor/1.jpg", "a/apse/outdoor/1.jpg"]
    write_images(tmp_path / "sun397" / "SUN397", files)
    rows = [[files[0], 0, "outdoor amusement_park"], [files[1], 1, "outdoor apse"]]
    split = tmp_path / "sun397" / "split_zhou_SUN397.json"
    split.write_text(json.dumps({"train": rows, "val": rows, "test": rows}))
    assert load_dataset("sun397", tmp_path).class_names == ("outdoor amusement park", "outdoor apse")
    split.write_text(json.dumps({"train": rows, "val": [[files[0], 1, "outdoor apse"]], "test": rows}))
    with pytest.raises(UserError, match="pairs labels and class names in two ways"):
        load_dataset("sun397", tmp_path)


def test_scenes_with_one_of_two_lists(tmp_path):
    more_sets.sun397(tmp_path)
    (tmp_path / "sun397" / "Testing_01.txt").unlink()
    with pytest.raises(UserError, match="Testing_01.txt cannot be read"):
        load_dataset("sun397", tmp_path)


def test_actions_by_the_first_split(tmp_path):
    more_sets.ucf101(tmp_path)
    imageset = load_dataset("ucf101", tmp_path)
    assert imageset.class_names == ("Apply Eye Makeup", "Handstand Pushups", "Yo Yo")
    assert_counts(imageset, 4, 2)
    for path, label in zip(imageset.test.images.paths, imageset.test.labels, strict=True):
        assert Path(path).stem.split("_")[1] == ACTIONS[label] and Path(path).stem.split("_")[2] in ("g01", "g02")
    assert "testlist01.txt, and 80 % of trainlist01.txt" in imageset.source


def test_actions_without_lists_are_divided(tmp_path):
    more_sets.ucf101(tmp_path)
    (tmp_path / "ucf101" / "ucfTrainTestlist").rename(tmp_path / "elsewhere")
    imageset = load_dataset("ucf101", tmp_path)
    assert imageset.class_names == ("Apply Eye Makeup", "Handstand Pushups", "Yo Yo")
    assert "not CoOp's split" in imageset.source


def test_actions_whose_numbers_are_others(tmp_path):
    more_sets.ucf101(tmp_path)
    path = tmp_path / "ucf101" / "ucfTrainTestlist" / "classInd.txt"
    path.write_text("2 ApplyEyeMakeup\n1 HandstandPushups\n3 YoYo\n")
    with pytest.raises(UserError, match="trainlist01.txt pairs labels and class names in two ways"):
        load_dataset("ucf101", tmp_path)


def test_lists_with_other_classes(tmp_path):
    more_sets.ucf101(tmp_path)
    path = tmp_path / "ucf101" / "ucfTrainTestlist" / "testlist01.txt"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "YoYo" not in line))
    with pytest.raises(UserError, match="testlist01.txt has no image of 'YoYo'"):
        load_dataset("ucf101", tmp_path)
