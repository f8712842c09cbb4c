"""ImageNet, and the four test sets that have its classes; only folders are listed, as 1.3 million files lie in them.

ImageNetV2, ImageNet-Sketch, ImageNet-A and ImageNet-R have no training images: theirs are ImageNet's. A and R have 200
of the 1,000 classes, and so have their training parts.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from pfedmoap.data import layout
from pfedmoap.data.catalog.splits import Classes, read_lines
from pfedmoap.data.imageset import ImageSet
from pfedmoap.errors import UserError


def imagenet(root: Path) -> ImageSet:
    """The 1,000 classes of ILSVRC 2012, tested on its validation images."""
    folder = _locate(root)
    train, test = _classes(folder / "train"), _classes(folder / "val")
    odd = set(train) ^ set(test)
    if odd:
        raise UserError(f"{folder} has {min(odd)} only in train or only in val: complete it, then run again")
    return _image_set("imagenet", folder, folder / "val", train, test, f"{folder}, tested on the validation images")


def imagenet_v2(root: Path) -> ImageSet:
    """ImageNet's 1,000 classes, tested on new photographs (matched frequency)."""
    inner, address = "imagenetv2-matched-frequency-format-val", "https://github.com/modestyachts/ImageNetV2"
    return _tested_on("imagenet_v2", root, "ImageNetV2", (f"imagenetv2/{inner}", inner), address)


def imagenet_sketch(root: Path) -> ImageSet:
    """ImageNet's 1,000 classes, tested on sketches."""
    layouts = "imagenet-sketch/images", "imagenet-sketch/sketch"
    address = "https://github.com/HaohanWang/ImageNet-Sketch"
    return _tested_on("imagenet_sketch", root, "ImageNet-Sketch", layouts, address)


def imagenet_a(root: Path) -> ImageSet:
    """200 of ImageNet's classes, tested on photographs that a ResNet-50 got wrong."""
    address = "https://github.com/hendrycks/natural-adv-examples"
    return _tested_on("imagenet_a", root, "ImageNet-A", ("imagenet-adversarial/imagenet-a", "imagenet-a"), address)


def imagenet_r(root: Path) -> ImageSet:
    """200 of ImageNet's classes, tested on art, toys and other renditions."""
    layouts, address = ("imagenet-rendition/imagenet-r", "imagenet-r"), "https://github.com/hendrycks/imagenet-r"
    return _tested_on("imagenet_r", root, "ImageNet-R", layouts, address)


def _locate(root: Path) -> Path:
    remedy = "get the training and validation images from https://image-net.org and unpack them there, as train and val"
    return layout.locate("ImageNet", root, ("imagenet/images", "imagenet"), remedy)


def _classes(folder: Path) -> Classes:
    if not folder.is_dir():
        raise UserError(f"{folder} is missing: put ImageNet's images there, one folder such as n01440764 per class")
    return layout.class_folders(folder)


def _tested_on(name: str, root: Path, title: str, layouts: tuple[str, ...], address: str) -> ImageSet:
    """The classes that a test set has, with ImageNet's training images of them."""
    folder = _locate(root)
    place = layout.locate(title, root, layouts, f"download it from {address} and unpack it there, beside ImageNet")
    synsets = _synsets()
    test = {_synset(place, synsets, found): paths for found, paths in layout.class_folders(place).items()}
    train = {synset: layout.images_in(folder / "train", synset) for synset in sorted(test)}
    source = f"{folder / 'train'}, tested on {place}"
    return _image_set(name, folder, place, train, {synset: test[synset] for synset in train}, source)


def _synset(place: Path, synsets: tuple[str, ...], found: str) -> str:
    """The class of a test folder, which ImageNetV2 calls by its number (0 to 999) among ImageNet's sorted ones."""
    if found in synsets:
        return found
    if found.isdecimal() and int(found) < len(synsets):
        return synsets[int(found)]
    raise UserError(f"{place / found} is none of ImageNet's 1,000 classes: move it elsewhere, then run again")


def _synsets() -> tuple[str, ...]:
    """ImageNet's 1,000 classes in their order, such as n01440764."""
    from timm.data import ImageNetInfo  # a slow import

    return tuple(ImageNetInfo().label_names())


def _image_set(name: str, folder: Path, place: Path, train: Classes, test: Classes, source: str) -> ImageSet:
    """The set with training images in `folder`/train and test images in `place`; both have the same classes."""
    names = _class_names(folder)
    unknown = next((synset for synset in train if synset not in names), None)
    if unknown:
        raise UserError(f"no name is known of the class {unknown} in {folder}: add it to classnames.txt, or move it")
    parts = layout.listed(train), layout.listed({synset: test[synset] for synset in train})
    class_names = [names[synset] for synset in train]
    place_of_train = folder / "train"
    return layout.image_set(name, place_of_train, class_names, *parts, source, test_folder=place, just_listed=True)


def _class_names(folder: Path) -> dict[str, str]:
    """{class: name} from CoOp's classnames.txt, or from open_clip, which has CLIP's names too."""
    for path in (folder / "classnames.txt", folder.parent / "classnames.txt"):
        if path.is_file():
            with layout.readable(path):
                return _told_apart(dict(line.split(" ", 1) for line in read_lines(path)))
    from open_clip import IMAGENET_CLASSNAMES  # a slow import

    return _told_apart(dict(zip(_synsets(), IMAGENET_CLASSNAMES, strict=True)))


def _told_apart(names: Mapping[str, str]) -> dict[str, str]:
    """Classes that the list calls alike (two kinds of missiles, of sunglasses) go by the first word of WordNet's."""
    from timm.data import ImageNetInfo

    words, counts = ImageNetInfo(), Counter(names.values())
    return {
        synset: words.label_name_to_description(synset).split(",")[0] if counts[name] > 1 else name
        for synset, name in names.items()
    }
