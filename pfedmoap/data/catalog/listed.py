"""The benchmarks of CoOp's that come with lists of their own: cars, aircraft, scenes and actions."""

from pathlib import Path

import numpy as np

from pfedmoap.data import layout
from pfedmoap.data.catalog.splits import Classes, by_class, by_lists, by_rule, by_split_file, from_folders, read_lines
from pfedmoap.data.imageset import ImageSet


def stanford_cars(root: Path) -> ImageSet:
    """Cars by make, model and year: 196 classes, named with the year first as in CoOp's split."""
    name, remedy = "stanford_cars", "put cars_train, cars_test, devkit and cars_test_annos_withlabels.mat there"
    folder = layout.locate("StanfordCars", root, ("stanford_cars",), remedy)
    divided = by_split_file(name, folder, folder / "split_zhou_StanfordCars.json", in_class_folders=False)
    if divided:
        return divided
    models = _read_mat(folder / "devkit" / "cars_meta.mat", "class_names").tolist()
    lists = {"cars_train": "devkit/cars_train_annos.mat", "cars_test": "cars_test_annos_withlabels.mat"}
    trainval, test = (_read_cars(folder / file, part, models) for part, file in lists.items())
    class_names = [" ".join([model.split()[-1], *model.split()[:-1]]) for model in models]
    return by_lists(name, folder, class_names, trainval, test, tuple(lists.values()))


def _read_mat(path: Path, key: str) -> np.ndarray:
    from scipy.io import loadmat  # a slow import

    with layout.readable(path):
        return np.atleast_1d(loadmat(path, squeeze_me=True)[key])


def _read_cars(path: Path, part: str, models: list[str]) -> Classes:
    """The images of every model, whose number in the annotations counts from 1."""
    annotations = _read_mat(path, "annotations")
    with layout.readable(path):
        numbers = annotations["class"].astype(int)
        if numbers.min() < 1:
            raise ValueError(f"there is no class {numbers.min()}")
        rows = [(f"{part}/{file}", models[n - 1]) for file, n in zip(annotations["fname"], numbers, strict=True)]
    return by_class(path, models, rows)


def fgvc_aircraft(root: Path) -> ImageSet:
    """Aircraft by variant: 100 classes. The official lists are CoOp's split; that for validation is left out."""
    folder = layout.locate(
        "FGVC-Aircraft",
        root,
        ("fgvc_aircraft/images", "fgvc_aircraft/data/images", "fgvc-aircraft-2013b/data/images"),
        "download fgvc-aircraft-2013b.tar.gz from https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft "
        "and unpack it there",
    )
    variants = read_lines(folder.parent / "variants.txt")
    train, test = (_read_aircraft(folder.parent / f"images_variant_{part}.txt", variants) for part in ("train", "test"))
    entries = layout.listed(train), layout.listed(test)
    return layout.image_set("fgvc_aircraft", folder, variants, *entries, f"{folder}, the official split")


def _read_aircraft(path: Path, variants: list[str]) -> Classes:
    """Reads lines such as "1025794 707-320"."""
    rows = [line.partition(" ") for line in read_lines(path)]
    return by_class(path, variants, [(f"{image}.jpg", variant) for image, _, variant in rows])


def sun397(root: Path) -> ImageSet:
    """Scenes: 397 classes, by the first of the official partitions if it is there."""
    folder = layout.locate(
        "SUN397",
        root,
        ("sun397/SUN397", "SUN397"),
        "download SUN397.tar.gz and Partitions.zip from https://vision.princeton.edu/projects/2010/SUN "
        "and unpack both there",
    )
    divided = by_split_file("sun397", folder, folder.parent / "split_zhou_SUN397.json")
    if divided:
        return divided
    lists = next((place for place in (folder.parent, folder) if (place / "ClassName.txt").is_file()), folder)
    scenes = [line.lstrip("/") for line in read_lines(lists / "ClassName.txt")]  # "a/apartment_building/outdoor"
    class_names = [" ".join(reversed(scene.split("/")[1:])) for scene in scenes]  # "outdoor apartment_building"
    names = "Training_01.txt", "Testing_01.txt"
    if not any((lists / name).is_file() for name in names):
        return by_rule("sun397", folder, {scene: layout.images_in(folder, scene) for scene in scenes}, class_names)
    trainval, test = (_read_scenes(lists / name, scenes) for name in names)
    return by_lists("sun397", folder, class_names, trainval, test, names)


def _read_scenes(path: Path, scenes: list[str]) -> Classes:
    """Reads lines such as "/a/abbey/sun_aaalbzqrimafwbiv.jpg"."""
    files = [line.lstrip("/") for line in read_lines(path)]
    return by_class(path, scenes, [(file, file.rpartition("/")[0]) for file in files])


def ucf101(root: Path) -> ImageSet:
    """Human actions, the middle frame of every video: 101 classes, by the first of the official splits if it is there.

    Class folders are called as in CoOp's archive: "Apply_Eye_Makeup" for "ApplyEyeMakeup".
    """
    folder = layout.locate(
        "UCF101",
        root,
        ("ucf101/UCF-101-midframes",),
        "download CoOp's UCF-101-midframes.zip (https://github.com/KaiyangZhou/CoOp, DATASETS.md) and unpack it there",
    )
    lists, split_file = folder.parent / "ucfTrainTestlist", "split_zhou_UCF101.json"
    if (folder.parent / split_file).is_file() or not lists.is_dir():
        return from_folders("ucf101", folder, split_file)
    with layout.readable(lists / "classInd.txt"):
        actions = {action: int(number) for number, action in map(str.split, read_lines(lists / "classInd.txt"))}
    names = "trainlist01.txt", "testlist01.txt"
    trainval, test = (_read_actions(lists / name, actions) for name in names)
    return by_lists("ucf101", folder, list(map(_words, actions)), trainval, test, names)


def _read_actions(path: Path, actions: dict[str, int]) -> Classes:
    """Reads lines such as "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1"; test lists have no number."""
    rows = [(line.split()[0].partition("/"), line.split()[1:]) for line in read_lines(path)]
    numbered = {(int(number), action) for (action, _, _), numbers in rows for number in numbers}
    layout.check_pairs(path, numbered | {(number, action) for action, number in actions.items()})
    files = [(f"{_words(action)}/{video.removesuffix('.avi')}.jpg", action) for (action, _, video), _ in rows]
    return by_class(path, list(actions), files)


def _words(action: str) -> str:
    """ "ApplyEyeMakeup" with an underscore before every capital but the first."""
    return "".join(f"_{letter}" * letter.isupper() or letter for letter in action).lstrip("_")
