"""The few-shot benchmarks of the paper, and EuroSAT, in CoOp's layout on disk or torchvision's."""

import json
from collections import defaultdict
from pathlib import Path

import torchvision

from pfedmoap.data import layout
from pfedmoap.data.catalog.splits import by_lists, by_rule, by_split_file, from_folders
from pfedmoap.data.imageset import ImageSet

CALTECH_RENAMED = {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"}
EUROSAT_RENAMED = {
    "AnnualCrop": "Annual Crop Land",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "SeaLake": "Sea or Lake",
}


def caltech101(root: Path) -> ImageSet:
    """Caltech101 without its background class and its second class of faces: 100 classes."""
    folder = layout.locate(
        "Caltech101",
        root,
        ("caltech-101/101_ObjectCategories", "caltech101/101_ObjectCategories"),
        "download caltech-101.zip from https://data.caltech.edu/records/mzrjq-6wc02 and unpack it there",
    )
    split_file = "split_zhou_Caltech101.json"
    return from_folders("caltech101", folder, split_file, ("BACKGROUND_Google", "Faces_easy"), CALTECH_RENAMED)


def dtd(root: Path) -> ImageSet:
    """Describable textures: 47 classes."""
    folder = layout.locate(
        "DTD",
        root,
        ("dtd/images", "dtd/dtd/images"),
        "download dtd-r1.0.1.tar.gz from https://www.robots.ox.ac.uk/~vgg/data/dtd and unpack it there",
    )
    return from_folders("dtd", folder, "split_zhou_DescribableTextures.json")


def food101(root: Path) -> ImageSet:
    """Dishes: 101 classes."""
    folder = layout.locate(
        "Food101",
        root,
        ("food-101/images",),
        "download food-101.tar.gz from https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101 and unpack it there",
    )
    return from_folders("food101", folder, "split_zhou_Food101.json")


def eurosat(root: Path) -> ImageSet:
    """Land from a satellite: 10 classes."""
    folder = layout.locate(
        "EuroSAT",
        root,
        ("eurosat/2750", "eurosat/EuroSAT_RGB"),
        "download EuroSAT_RGB.zip from https://zenodo.org/records/7711810 and unpack it there",
    )
    return from_folders("eurosat", folder, "split_zhou_EuroSAT.json", renamed=EUROSAT_RENAMED)


def flowers102(root: Path) -> ImageSet:
    """Flowers: 102 classes, named by cat_to_name.json or by torchvision, which agree with imagelabels.mat by number."""
    folder = layout.locate(
        "Flowers102",
        root,
        ("oxford_flowers/jpg", "flowers-102/jpg"),
        "download 102flowers.tgz and imagelabels.mat from https://www.robots.ox.ac.uk/~vgg/data/flowers/102, "
        "and unpack the images there",
    )
    divided = by_split_file("flowers102", folder, folder.parent / "split_zhou_OxfordFlowers.json")
    if divided:
        return divided
    numbers = _read_flower_numbers(folder.parent / "imagelabels.mat")
    names = _read_flower_names(folder.parent / "cat_to_name.json")
    classes = {names[number - 1]: [] for number in sorted(set(numbers))}
    for image, number in enumerate(numbers, start=1):
        classes[names[number - 1]].append(f"image_{image:05d}.jpg")
    return by_rule("flowers102", folder, classes, list(classes))


def _read_flower_numbers(path: Path) -> list[int]:
    """The class number, from 1, of image_00001.jpg, image_00002.jpg, ..."""
    from scipy.io import loadmat  # a slow import, and only this set needs it

    with layout.readable(path):
        return loadmat(path)["labels"].ravel().astype(int).tolist()


def _read_flower_names(path: Path) -> list[str]:
    """The names of classes 1, 2, ..., 102."""
    if not path.is_file():
        return list(torchvision.datasets.Flowers102.classes)
    with layout.readable(path):
        by_number = json.loads(path.read_text())
        return [by_number[str(number)] for number in range(1, len(by_number) + 1)]


def oxford_pets(root: Path) -> ImageSet:
    """Breeds of cats and dogs: 37 classes."""
    folder = layout.locate(
        "OxfordPets",
        root,
        ("oxford_pets/images", "oxford-iiit-pet/images"),
        "download images.tar.gz and annotations.tar.gz from https://www.robots.ox.ac.uk/~vgg/data/pets "
        "and unpack both there",
    )
    divided = by_split_file("oxford_pets", folder, folder.parent / "split_zhou_OxfordPets.json")
    if divided:
        return divided
    trainval, test = (_read_breeds(folder.parent / "annotations" / f"{part}.txt") for part in ("trainval", "test"))
    return by_lists("oxford_pets", folder, list(trainval), trainval, test, ("trainval.txt", "test.txt"))


def _read_breeds(path: Path) -> dict[str, list[str]]:
    """Reads lines such as "great_pyrenees_12 16 2 9" (image, class number, ...): {breed: [file, ...]} by number."""
    numbers = defaultdict(set)
    images = defaultdict(list)
    with layout.readable(path):
        for line in path.read_text().splitlines():
            if line.strip() and not line.startswith("#"):
                image, number = line.split()[:2]
                breed = image.rpartition("_")[0].lower()
                numbers[breed].add(int(number))
                images[breed].append(f"{image}.jpg")
    layout.check_pairs(path, {(number, breed) for breed in numbers for number in numbers[breed]})
    return {breed: images[breed] for breed in sorted(images, key=lambda breed: min(numbers[breed]))}
