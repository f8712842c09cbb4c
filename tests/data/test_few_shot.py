"""Flowers102, OxfordPets, Food101, DTD and EuroSAT in CoOp's layout and torchvision's."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torchvision
from layouts import write_classes, write_images
from scipy.io import savemat

from pfedmoap.errors import UserError
from pfedmoap.experiments import load_dataset

FLOWERS = ("pink primrose", "hard-leaved pocket orchid", "canterbury bells")
NUMBERS = [1, 3, 2, 1, 2, 3, 3, 2, 1, 2] * 3  # class of image_00001.jpg, image_00002.jpg, ...
EUROSAT_CLASSES = ("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture",
                   "PermanentCrop", "Residential", "River", "SeaLake")  # fmt: skip
BREEDS = ("Abyssinian", "american_bulldog", "Birman")


def write_flowers(folder, with_names):
    write_images(folder / "jpg", [f"image_{number:05d}.jpg" for number in range(1, len(NUMBERS) + 1)])
    savemat(folder / "imagelabels.mat", {"labels": np.array([NUMBERS], dtype=np.uint8)})
    if with_names:
        names = {str(number): name for number, name in reversed(list(enumerate(FLOWERS, start=1)))}
        (folder / "cat_to_name.json").write_text(json.dumps(names))


@pytest.mark.parametrize(("folder", "with_names"), [("oxford_flowers", True), ("flowers-102", False)])
def test_flowers_names_follow_the_mat_file(tmp_path, folder, with_names):
    write_flowers(tmp_path / folder, with_names)
    imageset = load_dataset("flowers102", tmp_path)
    assert imageset.class_names == FLOWERS
    for split in (imageset.train, imageset.test):
        for path, label in zip(map(Path, split.images.paths), split.labels, strict=True):
            assert NUMBERS[int(re.fullmatch(r"image_(\d{5})", path.stem)[1]) - 1] == label + 1
    totals = np.bincount(NUMBERS)[1:]
    assert np.bincount(imageset.train.labels).tolist() == [round(0.5 * n) for n in totals]
    assert np.bincount(imageset.test.labels).tolist() == [n - round(0.5 * n) - round(0.2 * n) for n in totals]
    assert "not CoOp's split" in imageset.source


def test_flowers_split_file_needs_no_mat_file(tmp_path):
    write_images(tmp_path / "oxford_flowers" / "jpg", ["image_00001.jpg", "image_00002.jpg"])
    rows = [["image_00001.jpg", 0, "pink primrose"], ["image_00002.jpg", 1, "hard-leaved pocket orchid"]]
    content = {"train": rows, "val": rows, "test": rows}
    (tmp_path / "oxford_flowers" / "split_zhou_OxfordFlowers.json").write_text(json.dumps(content))
    imageset = load_dataset("flowers102", tmp_path)
    assert imageset.class_names == FLOWERS[:2]
    assert imageset.source.endswith("CoOp's split (split_zhou_OxfordFlowers.json)")


def test_flowers_without_labels_or_without_an_image(tmp_path):
    write_flowers(tmp_path / "oxford_flowers", with_names=True)
    (tmp_path / "oxford_flowers" / "jpg" / "image_00007.jpg").unlink()
    with pytest.raises(UserError, match=r"listed images are missing in .*first: image_00007.jpg"):
        load_dataset("flowers102", tmp_path)
    (tmp_path / "oxford_flowers" / "imagelabels.mat").write_bytes(b"<html>")
    with pytest.raises(UserError, match="imagelabels.mat cannot be read .*download it again"):
        load_dataset("flowers102", tmp_path)


def test_torchvisions_flower_names_are_the_well_known_ones():
    assert torchvision.datasets.Flowers102.classes[:3] == list(FLOWERS)
    assert len(torchvision.datasets.Flowers102.classes) == 102


def write_pets(folder, files=None):
    (folder / "annotations").mkdir(parents=True)
    for part, images in (("trainval", range(1, 11)), ("test", range(11, 16))):
        lines = [f"{breed}_{k} {n} 1 {n}" for n, breed in enumerate(BREEDS, start=1) for k in images]
        (folder / "annotations" / f"{part}.txt").write_text("\n".join(lines) + "\n")
    write_images(folder / "images", [f"{breed}_{k}.jpg" for breed in BREEDS for k in range(1, 16)])
    (folder / "images" / "Abyssinian_1.mat").touch()


@pytest.mark.parametrize("folder", ["oxford_pets", "oxford-iiit-pet"])
def test_pets_use_the_official_test_set(tmp_path, folder):
    write_pets(tmp_path / folder)
    imageset = load_dataset("oxford_pets", tmp_path)
    assert imageset.class_names == ("abyssinian", "american bulldog", "birman")
    assert np.bincount(imageset.train.labels).tolist() == [8, 8, 8]
    assert np.bincount(imageset.test.labels).tolist() == [5, 5, 5]
    for split, numbers in ((imageset.train, range(1, 11)), (imageset.test, range(11, 16))):
        for path, label in zip(map(Path, split.images.paths), split.labels, strict=True):
            breed, _, number = path.stem.rpartition("_")
            assert breed == BREEDS[label]
            assert int(number) in numbers


def test_pets_with_contradictory_annotations(tmp_path):
    write_pets(tmp_path / "oxford_pets")
    with open(tmp_path / "oxford_pets" / "annotations" / "trainval.txt", "a") as file:
        file.write("Birman_3 1 1 1\n")
    with pytest.raises(UserError, match="trainval.txt pairs labels and class names in two ways"):
        load_dataset("oxford_pets", tmp_path)


def test_pets_whose_lists_have_other_breeds(tmp_path):
    write_pets(tmp_path / "oxford_pets")
    path = tmp_path / "oxford_pets" / "annotations" / "test.txt"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "Birman" not in line))
    with pytest.raises(UserError, match="trainval.txt and test.txt of .* differ in the class 'birman'"):
        load_dataset("oxford_pets", tmp_path)


@pytest.mark.parametrize(
    ("name", "folder", "split_file"),
    [
        ("dtd", "dtd/images", "split_zhou_DescribableTextures.json"),
        ("dtd", "dtd/dtd/images", "split_zhou_DescribableTextures.json"),
        ("food101", "food-101/images", "split_zhou_Food101.json"),
        ("eurosat", "eurosat/2750", "split_zhou_EuroSAT.json"),
    ],
)
def test_class_folders_with_and_without_split_file(tmp_path, name, folder, split_file):
    write_classes(tmp_path / folder, {"waffles": 10, "apple_pie": 20})
    imageset = load_dataset(name, tmp_path)
    assert imageset.class_names == ("apple pie", "waffles")
    assert np.bincount(imageset.train.labels).tolist() == [10, 5]
    assert np.bincount(imageset.test.labels).tolist() == [6, 3]
    rows = [["apple_pie/image_0001.jpg", 0, "apple_pie"], ["waffles/image_0002.jpg", 1, "waffles"]]
    split_path = (tmp_path / folder).parent / split_file
    tested = [["waffles/image_0001.jpg", 1, "waffles"], ["apple_pie/image_0002.jpg", 0, "apple_pie"]]
    split_path.write_text(json.dumps({"train": rows, "val": [], "test": tested}))
    divided = load_dataset(name, tmp_path)
    assert divided.class_names == ("apple pie", "waffles")
    assert divided.test.labels.tolist() == [1, 0]
    assert divided.fingerprint != imageset.fingerprint


def test_land_has_coops_names(tmp_path):
    write_classes(tmp_path / "eurosat" / "2750", dict.fromkeys(EUROSAT_CLASSES, 2))
    names = load_dataset("eurosat", tmp_path).class_names
    assert names == ("Annual Crop Land", "Forest", "Herbaceous Vegetation Land", "Highway or Road",
                     "Industrial Buildings", "Pasture Land", "Permanent Crop Land", "Residential Buildings", "River",
                     "Sea or Lake")
