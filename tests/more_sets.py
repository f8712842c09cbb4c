"""The data sets beyond the paper's nine in their real layouts, with few classes and few and tiny images."""

from pathlib import Path

import numpy as np
from layouts import files_of, write_classes, write_images
from scipy.io import savemat

from pfedmoap.data.catalog.domains import PACS

CARS = ("AM General Hummer SUV 2000", "Ram C-V Cargo Van Minivan 2012", "smart fortwo Convertible 2012")
VARIANTS = ("707-320", "F-16A-B", "Cessna 172")
SCENES = ("a/abbey", "a/apartment_building/outdoor", "k/kindergarden_classroom")
ACTIONS = ("ApplyEyeMakeup", "HandstandPushups", "YoYo")
SYNSETS = ("n01440764", "n03773504", "n04008634")  # 0: tench, 657: missile, 744: missile again
NUMBERS = ("0", "657", "744")
THINGS = ("Alarm_Clock", "TV", "Table")


def write_all(root: Path) -> None:
    """All of them, as they lie side by side under one data root."""
    for write in (eurosat, stanford_cars, fgvc_aircraft, sun397, ucf101, imagenet, imagenet_v2, imagenet_sketch,
                  imagenet_a, imagenet_r, pacs, office_home):  # fmt: skip
        write(root)


def eurosat(root: Path) -> None:
    write_classes(root / "eurosat" / "2750", {"AnnualCrop": 10, "Forest": 20, "SeaLake": 10})


def write_cars(path: Path, numbers: list[int]) -> None:
    """Annotations as Stanford has them: a row of records with file name and class, from 1."""
    rows = np.zeros((1, len(numbers)), dtype=[("class", object), ("fname", object)])
    rows["class"][0], rows["fname"][0] = numbers, [f"{k:05d}.jpg" for k in range(1, len(numbers) + 1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"annotations": rows})


def stanford_cars(root: Path) -> None:
    """Five training images and two test images of each."""
    folder = root / "stanford_cars"
    names = {"cars_train": "devkit/cars_train_annos.mat", "cars_test": "cars_test_annos_withlabels.mat"}
    for (part, file), count in zip(names.items(), (5, 2), strict=True):
        numbers = [1, 2, 3] * count
        write_cars(folder / file, numbers)
        write_images(folder / part, [f"{k:05d}.jpg" for k in range(1, len(numbers) + 1)])
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array([CARS], dtype=object)})


def fgvc_aircraft(root: Path, folder: str = "fgvc_aircraft") -> None:
    """One image of each in every list."""
    place = root / folder
    images = [f"{k:07d}" for k in range(9)]
    write_images(place / "images", [f"{image}.jpg" for image in images])
    (place / "variants.txt").write_text("\n".join(VARIANTS) + "\n")
    for number, part in enumerate(("train", "val", "test")):
        rows = [f"{image} {VARIANTS[k % 3]}" for k, image in enumerate(images) if k // 3 == number]
        (place / f"images_variant_{part}.txt").write_text("\n".join(rows) + "\n")


def sun397(root: Path, lists: bool = True) -> None:
    """Five training images and five test images of each; without lists as torchvision has it."""
    folder = root / "sun397" if lists else root
    write_classes(folder / "SUN397", dict.fromkeys(SCENES, 10))
    place = folder if lists else folder / "SUN397"
    (place / "ClassName.txt").write_text("".join(f"/{scene}\n" for scene in SCENES))
    for name, numbers in (("Training_01.txt", range(1, 6)), ("Testing_01.txt", range(6, 11))) if lists else ():
        rows = [f"/{scene}/image_{k:04d}.jpg\n" for scene in SCENES for k in numbers]
        (place / name).write_text("".join(rows))


def ucf101(root: Path) -> None:
    """Five training images and two test images of each."""
    folder, lists = root / "ucf101", root / "ucf101" / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    (lists / "classInd.txt").write_text("".join(f"{k} {action}\n" for k, action in enumerate(ACTIONS, start=1)))
    videos = {action: [f"v_{action}_g{k:02d}_c01" for k in range(1, 8)] for action in ACTIONS}
    folders = dict(zip(ACTIONS, ("Apply_Eye_Makeup", "Handstand_Pushups", "Yo_Yo"), strict=True))
    write_images(folder / "UCF-101-midframes", [f"{folders[a]}/{video}.jpg" for a in ACTIONS for video in videos[a]])
    for name, some in (("trainlist01.txt", slice(2, None)), ("testlist01.txt", slice(2))):
        rows = [f"{action}/{video}.avi" + f" {k}" * (name[1] == "r")
                for k, action in enumerate(ACTIONS, start=1) for video in videos[action][some]]  # fmt: skip
        (lists / name).write_text("\n".join(rows) + "\n")


def imagenet(root: Path, folder: str = "imagenet/images") -> None:
    """Four training images and two validation images of each."""
    for part, count in (("train", 4), ("val", 2)):
        write_classes(root / folder / part, dict.fromkeys(SYNSETS, count))


def imagenet_v2(root: Path) -> None:
    write_classes(root / "imagenetv2" / "imagenetv2-matched-frequency-format-val", dict.fromkeys(NUMBERS, 3))


def imagenet_sketch(root: Path) -> None:
    write_classes(root / "imagenet-sketch" / "images", dict.fromkeys(SYNSETS, 3))


def imagenet_a(root: Path) -> None:
    write_classes(root / "imagenet-adversarial" / "imagenet-a", dict.fromkeys(SYNSETS[1:], 3))
    (root / "imagenet-adversarial" / "imagenet-a" / "README.txt").touch()


def imagenet_r(root: Path) -> None:
    write_classes(root / "imagenet-rendition" / "imagenet-r", dict.fromkeys(SYNSETS[:2], 3))


def pacs(root: Path) -> None:
    """Dassl's folders and lists: two training images and one for cross-validation of each class in each domain."""
    (root / "pacs" / "splits").mkdir(parents=True)
    write_images(root / "pacs" / "images", files_of(PACS, 3))
    for domain in PACS.domains:
        for part, numbers in (("train", (1, 2)), ("crossval", (0,)), ("test", (0, 1, 2))):
            rows = [f"{domain}/{name}/{domain}_{k:03d}.jpg {label}"
                    for label, name in enumerate(PACS.classes, start=1) for k in numbers]  # fmt: skip
            if domain == "sketch" and part != "crossval":
                rows.append("sketch/dog/n02103406_4068-1.png 1")  # in the real list, too
            (root / "pacs" / "splits" / f"{domain}_{part}_kfold.txt").write_text("\n".join(rows) + "\n")


def office_home(root: Path, dassl: bool = False) -> None:
    """Ten images of each class in each domain, in the authors' folders or Dassl's, where seven are for training."""
    for domain in ("Art", "Clipart", "Product", "Real World"):
        if dassl:
            place = root / "office_home_dg" / domain.lower().replace(" ", "_")
            write_classes(place / "train", dict.fromkeys(map(str.lower, THINGS), 7))
            write_classes(place / "val", dict.fromkeys(map(str.lower, THINGS), 3))
        else:
            write_classes(root / "OfficeHomeDataset_10072016" / domain, dict.fromkeys(THINGS, 10))
