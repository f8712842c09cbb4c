"""The paper's nine data sets in their real layouts and with all their classes, but few and tiny images per class.

Names of classes that nothing depends on are made up; they are about as long as the real ones.
"""

import json
from pathlib import Path

import numpy as np
import torchvision
from layouts import files_of, write_cifar_batch, write_classes, write_images, write_pickles, write_python2_pickle
from scipy.io import savemat

from pfedmoap.data.catalog.domains import DOMAINNET, OFFICE


def write_all(root: Path) -> None:
    """All nine, as they lie side by side under one data root."""
    for write in (flowers102, oxford_pets, food101, caltech101, dtd, cifar10, cifar100, domainnet, office_caltech10):
        write(root)


def flowers102(root: Path) -> None:
    """CoOp's folder without its split file: 102 classes, one training and one test image each."""
    folder, names = root / "oxford_flowers", torchvision.datasets.Flowers102.classes
    numbers = np.tile(np.arange(1, len(names) + 1, dtype=np.uint8), 2)
    write_images(folder / "jpg", [f"image_{image:05d}.jpg" for image in range(1, len(numbers) + 1)])
    savemat(folder / "imagelabels.mat", {"labels": numbers[None]})
    (folder / "cat_to_name.json").write_text(json.dumps({str(k): name for k, name in enumerate(names, start=1)}))


def oxford_pets(root: Path) -> None:
    """torchvision's folder with the official lists: 37 classes, two training images and one test image each."""
    folder, breeds = root / "oxford-iiit-pet", [f"{'Cat' if k % 3 else 'dog'}_{k}" for k in range(1, 38)]
    (folder / "annotations").mkdir(parents=True)
    for part, images in (("trainval", (1, 2, 3)), ("test", (4,))):
        lines = [f"{breed}_{image} {k} 1 {k}" for k, breed in enumerate(breeds, start=1) for image in images]
        (folder / "annotations" / f"{part}.txt").write_text("\n".join(lines) + "\n")
    write_images(folder / "images", [f"{breed}_{image}.jpg" for breed in breeds for image in (1, 2, 3, 4)])


def food101(root: Path) -> None:
    """With CoOp's split file: 101 classes, one image each for training, validation and testing."""
    folder, dishes = root / "food-101", [f"dish_{k}" for k in range(101)]
    write_classes(folder / "images", dict.fromkeys(dishes, 3))
    split = {part: [[f"{dish}/image_{image:04d}.jpg", label, dish] for label, dish in enumerate(dishes)]
             for image, part in enumerate(("train", "val", "test"), start=1)}
    (folder / "split_zhou_Food101.json").write_text(json.dumps(split))


def caltech101(root: Path) -> None:
    """CoOp's folder without its split file: 100 classes and the two that are left out, one image for either split."""
    known = ("BACKGROUND_Google", "Faces", "Faces_easy", "Leopards", "Motorbikes", "airplanes")
    classes = dict.fromkeys((*known, *(f"object_{k}" for k in range(96))), 2)
    write_classes(root / "caltech-101" / "101_ObjectCategories", classes)


def dtd(root: Path) -> None:
    """torchvision's folder: 47 classes, two training images and one test image each."""
    write_classes(root / "dtd" / "dtd" / "images", {f"textured_{k}": 4 for k in range(47)})


def cifar10(root: Path) -> None:
    """The python batches: ten classes, five training and two test images each."""
    folder, labels = root / "cifar-10-batches-py", list(range(10))
    write_python2_pickle(folder / "batches.meta", {b"label_names": [b"thing_%d" % k for k in labels]})
    for batch in range(1, 6):
        write_cifar_batch(folder / f"data_batch_{batch}", labels, b"labels", seed=batch)
    write_cifar_batch(folder / "test_batch", 2 * labels, b"labels", seed=0)


def cifar100(root: Path) -> None:
    """The python batches: 100 classes, one training and one test image each."""
    folder, labels = root / "cifar-100-python", list(range(100))
    write_python2_pickle(folder / "meta", {b"fine_label_names": [b"thing_%d" % k for k in labels]})
    for seed, part in enumerate(("train", "test")):
        write_cifar_batch(folder / part, labels, b"fine_labels", seed)


def domainnet(root: Path) -> None:
    """FedBN's lists: ten classes in six domains, two training images and one test image of each in each."""
    write_images(root / "DomainNet", files_of(DOMAINNET, 3))
    write_pickles(DOMAINNET, root, "DomainNet")


def office_caltech10(root: Path) -> None:
    """FedBN's lists: ten classes in four domains, two training images and one test image of each in each."""
    write_images(root / "office_caltech_10", files_of(OFFICE, 3))
    write_pickles(OFFICE, root, "office_caltech_10")
