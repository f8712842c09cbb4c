"""The two sets with domains: FedBN's lists, DomainNet's own lists, or plain folders `<domain>/<class>/*`."""

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
    """

    name: str
    folders: tuple[str, ...]
    classes: tuple[str, ...]
    domains: tuple[str, ...]


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


def _load(what: Domains, folder: Path) -> ImageSet:
    if any(folder.glob("*_train.pkl")):
        train, test = (_by_pickles(what, folder, part) for part in ("train", "test"))
        source = f"{folder}, FedBN's lists"
    elif any(folder.glob("*_train.txt")):
        train, test = (_by_text(what, folder, part) for part in ("train", "test"))
        source = f"{folder}, the data set's own lists, not FedBN's"
    else:
        train, test = _by_folders(what, folder)
        source = f"{folder}, 70/30 % per class and domain with a fixed seed, not FedBN's lists"
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
