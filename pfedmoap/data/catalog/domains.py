"""The sets with domains: FedBN's lists, the set's own lists, or plain folders `<domain>/<class>/*`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pfedmoap.data import layout
from pfedmoap.data.catalog.pickles import read_pickle
from pfedmoap.data.imageset import ImageSet
from pfedmoap.data.layout import Entry
from pfedmoap.errors import UserError


@dataclass(frozen=True)
class Domains:
    """What is common to a set's layouts.

    Attributes:
        name: of the data set.
        folders: what its folder may be called; FedBN's lists use the first name.
        classes: their folders, in label order.
        domains: their folders, in domain order.
        lists: those that would be used if they were there.
    """

    name: str
    folders: tuple[str, ...]
    classes: tuple[str, ...]
    domains: tuple[str, ...]
    lists: str = "FedBN's lists"


DOMAINNET = Domains(
    "domainnet",
    ("DomainNet", "domainnet"),
    ("bird", "feather", "headphones", "ice_cream", "teapot", "tiger", "whale", "windmill", "wine_glass", "zebra"),
    ("clipart", "infograph", "painting", "quickdraw", "real", "sketch"),
)
OFFICE = Domains(
    "office_caltech10",
    ("office_caltech_10", "office_caltech10"),
    ("back_pack", "bike", "calculator", "headphones", "keyboard", "laptop_computer", "monitor", "mouse", "mug")
    + ("projector",),
    ("amazon", "caltech", "dslr", "webcam"),
)
PACS = Domains(
    "pacs",
    ("pacs/images", "pacs", "PACS/images", "PACS"),
    ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person"),
    ("art_painting", "cartoon", "photo", "sketch"),
    "the lists of its authors",
)
PACS_BROKEN = "sketch/dog/n02103406_4068-1.png"  # Dassl leaves this one out
OFFICE_HOME = ("art", "clipart", "product", "real_world")


def domainnet(root: Path) -> ImageSet:
    """Ten classes of DomainNet in six domains."""
    remedy = (
        "download the six zips from https://ai.bu.edu/M3SDA (and FedBN's lists, if you have them) and unpack them there"
    )
    return _load(DOMAINNET, layout.locate("DomainNet", root, DOMAINNET.folders, remedy))


def office_caltech10(root: Path) -> ImageSet:
    """The ten classes that Office-31 and Caltech256 share, in four domains."""
    remedy = "download FedBN's office_caltech_10_dataset.zip (https://github.com/med-air/FedBN) and unpack it there"
    return _load(OFFICE, layout.locate("Office-Caltech10", root, OFFICE.folders, remedy))


def pacs(root: Path) -> ImageSet:
    """Seven classes in four styles; the lists for training are trained on, those for cross-validation tested on."""
    remedy = "download Dassl's pacs.zip (https://github.com/KaiyangZhou/Dassl.pytorch, DATASETS.md) and unpack it there"
    folder = layout.locate("PACS", root, PACS.folders, remedy)
    lists = folder.parent / "splits"
    if not lists.is_dir():
        return _load(PACS, folder)
    train, test = (_by_numbers(PACS, folder, lists, part) for part in ("train", "crossval"))
    source = f"{folder}, {PACS.lists} (train and crossval)"
    return layout.image_set("pacs", folder, PACS.classes, train, test, source, domain_names=PACS.domains)


def office_home(root: Path) -> ImageSet:
    """65 things of office and home in four domains, in the authors' folders or in Dassl's, which have train and val.

    The authors and Dassl write names in their own ways ("Real World/Alarm_Clock", "real_world/train/alarm_clock"): both
    have the same classes, domains and, without train and val, division here.
    """
    folder = layout.locate(
        "OfficeHome",
        root,
        ("OfficeHomeDataset_10072016", "office_home_dg", "office_home", "OfficeHome"),
        "download it from https://www.hemanthdv.org/officeHomeDataset.html and unpack it there",
    )
    found = {_plain(entry.name): entry.name for entry in os.scandir(folder) if layout.is_folder(entry)}
    train, test, classes = [], [], set()
    for number, domain in enumerate(OFFICE_HOME):
        if domain not in found:
            raise UserError(f"{folder} has no domain {domain!r}: unpack the whole archive again")
        place, divided = found[domain], (folder / found[domain] / "train").is_dir()
        parts = [_home(folder, f"{place}/{part}") for part in ("train", "val")] if divided else [_home(folder, place)]
        classes = classes or set(parts[0])
        odd = next((min(classes ^ set(part)) for part in parts if classes ^ set(part)), None)
        if odd:
            raise UserError(f"{folder / place} and other domains differ in the class {odd!r}: unpack it all again")
        if divided:
            pair = list(map(layout.listed, parts))
        else:
            pair = layout.divide("office_home", {f"{domain}/{name}": p for name, p in parts[0].items()}, 0.7, 0.0)
        for whole, own in zip((train, test), pair, strict=True):
            whole += [entry._replace(domain=number) for entry in own]
    how = "Dassl's folders" if divided else "70/30 % per class and domain with a fixed seed, not Dassl's folders"
    return layout.image_set(
        "office_home", folder, sorted(classes), train, test, f"{folder}, {how}", domain_names=OFFICE_HOME
    )


def _home(folder: Path, place: str) -> dict[str, list[str]]:
    """The classes of a domain's folder by their plain names, in the order of these."""
    classes = {_plain(name): paths for name, paths in layout.class_folders(folder / place).items()}
    return {name: [f"{place}/{path}" for path in classes[name]] for name in sorted(classes)}


def _plain(name: str) -> str:
    """ "Real World" as Dassl writes it."""
    return name.lower().replace(" ", "_")


def _load(what: Domains, folder: Path) -> ImageSet:
    if any(folder.glob("*_train.pkl")):
        train, test = (_by_pickles(what, folder, part) for part in ("train", "test"))
        source = f"{folder}, FedBN's lists"
    elif any(folder.glob("*_train.txt")):
        train, test = (_by_text(what, folder, part) for part in ("train", "test"))
        source = f"{folder}, the data set's own lists, not FedBN's"
    else:
        train, test = _by_folders(what, folder)
        source = f"{folder}, 70/30 % per class and domain with a fixed seed, not {what.lists}"
    return layout.image_set(what.name, folder, what.classes, train, test, source, domain_names=what.domains)


def _by_pickles(what: Domains, folder: Path, part: str) -> list[Entry]:
    """FedBN's `<domain>_<part>.pkl`: an array of paths that begin with the folder's name, and one of class names."""
    entries = []
    for number, domain in enumerate(what.domains):
        path = folder / f"{domain}_{part}.pkl"
        content = read_pickle(path)
        with layout.readable(path):
            files, classes = ([str(item) for item in array] for array in content)
            rows = [(file.split(f"{what.folders[0]}/")[-1], name) for file, name in zip(files, classes, strict=True)]
        entries += _entries(what, path, rows, number)
    return entries


def _by_text(what: Domains, folder: Path, part: str) -> list[Entry]:
    """DomainNet's `<domain>_<part>.txt`, lines such as "clipart/zebra/clipart_344_000001.jpg 344"; ten classes stay."""
    entries = []
    for number, domain in enumerate(what.domains):
        path = folder / f"{domain}_{part}.txt"
        with layout.readable(path):
            files = [line.rpartition(" ")[0] for line in path.read_text().splitlines() if line.strip()]
            rows = [(file, file.split("/")[-2]) for file in files]
        entries += _entries(what, path, [row for row in rows if row[1] in what.classes], number)
    return entries


def _by_numbers(what: Domains, folder: Path, lists: Path, part: str) -> list[Entry]:
    """`<domain>_<part>_kfold.txt`, lines such as "photo/dog/056_0001.jpg 1"; classes are numbered from 1."""
    entries = []
    for number, domain in enumerate(what.domains):
        path = lists / f"{domain}_{part}_kfold.txt"
        with layout.readable(path):
            rows = [line.rsplit(" ", 1) for line in path.read_text().splitlines() if line.strip()]
            rows = [(file, file.split("/")[-2], int(label)) for file, label in rows if file != PACS_BROKEN]
            odd = next((file for file, name, label in rows if what.classes.index(name) != label - 1), None)
            if odd:
                raise ValueError(f"the number of {odd} is not that of its folder")
        entries += _entries(what, path, [row[:2] for row in rows], number)
    return entries


def _entries(what: Domains, path: Path, rows: Sequence[tuple[str, str]], domain: int) -> list[Entry]:
    """Entries from (file, class name), after checking that names, and the class folders of the files, match labels."""
    unknown = {name for _, name in rows} - set(what.classes)
    if unknown:
        raise UserError(f"{path} has the class {min(unknown)!r}, which {what.name} has not: download the list again")
    layout.check_inside(path, [file for file, _ in rows])
    entries = [Entry(file, what.classes.index(name), domain) for file, name in rows]
    layout.check_pairs(path, {(entry.label, entry.path.split("/")[-2]) for entry in entries})
    return entries


def _by_folders(what: Domains, folder: Path) -> tuple[list[Entry], list[Entry]]:
    train, test = [], []
    for number, domain in enumerate(what.domains):
        classes = {f"{domain}/{name}": layout.images_in(folder, f"{domain}/{name}") for name in what.classes}
        for whole, part in zip((train, test), layout.divide(what.name, classes, train=0.7, val=0.0), strict=True):
            whole += [entry._replace(domain=number) for entry in part]
    return train, test
