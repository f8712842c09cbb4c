"""Your own images: folders in one of several layouts, or a CSV file; which of them it is is recognised and said."""

import csv
import io
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pfedmoap.data import layout, leftovers
from pfedmoap.data.imageset import ImageSet
from pfedmoap.errors import UserError
from pfedmoap.randomness import generator

FOLDERS = "folders"
PARTS = ("train", "test")
LEFT_OUT = "val"  # the protocols use no validation images
TRAIN_SHARE = 0.7
LAYOUTS = (
    "clients/<client>/{train,test}/<class>/*, <domain>/<class>/*, {train,test}/<class>/*, <class>/*, "
    "or name a CSV file with the columns path,label and perhaps split,client,domain"
)
COLUMNS = ("path", "label", "split", "client", "domain")  # in the order of `Row`


class Row(NamedTuple):
    """One image: path relative to the root, class, and "" for whatever its layout does not say.

    A path that ends in "/" is a class folder without images.
    """

    path: str
    label: str
    part: str = ""
    client: str = ""
    domain: str = ""


def load(root: Path) -> ImageSet:
    """Recognises the layout of a folder or CSV file and reads it; `source` says what was recognised and left out.

    Where train and test are not told apart, 70 % of each class (of each client or domain) is for training. Photographs
    are turned upright, of animations the first frame is used, and files that are hidden, empty or no images are left
    out.

    Raises:
        UserError: the layout is none of `LAYOUTS`, or incomplete, or two classes would read alike.
    """
    if root.is_file():
        listed = read_table(root)
        rows = [row for row in listed if os.path.getsize(root.parent / row.path)]
        empty = len(listed) - len(rows)
        return _image_set(root.parent, rows, f"{root}, a CSV file", {"empty file": empty} if empty else {})
    rows, recognised = scan(root)
    counts = leftovers.left_out(root, [row.path for row in rows])
    return _image_set(root, rows, f"{root}, recognised as {recognised}", counts)


def scan(root: Path) -> tuple[list[Row], str]:
    """All images of a folder, and the layout that it has."""
    tops = subfolders(root)
    flat = [name for name in tops if images(root, name)]
    nested = [name for name in tops if name not in flat and subfolders(root / name)]
    if "clients" in nested:
        clients = subfolders(root / "clients")
        rows = [row._replace(client=name) for name in clients for row in _branch(root, f"clients/{name}")]
        above = "clients/<client>/"
    elif nested and not _is_divided(root, ""):
        if flat:
            odd = f"{root} has images in {flat[0]} and folders in {nested[0]}"
            raise UserError(f"{odd}: use one layout for all of them, out of {LAYOUTS}")
        rows = [row._replace(domain=name) for name in nested for row in _branch(root, name)]
        above = "<domain>/"
    else:
        rows, above = _branch(root, ""), ""
    if not rows:
        raise UserError(f"{root} has no images in a layout that is known: arrange them as {LAYOUTS}")
    return rows, above + "{train,test}/" * bool(rows[0].part) + "<class>/*"


def _branch(root: Path, at: str) -> list[Row]:
    """The images of one client, one domain, or of the whole set: `{train,test}/<class>/*` or `<class>/*` under it."""
    below = f"{at}/" if at else ""
    if not _is_divided(root, at):
        return [Row(path, name) for name in subfolders(root / at) for path in _class_images(root, below + name)]
    found = subfolders(root / at)
    odd = sorted((set(found) ^ set(PARTS)) - {LEFT_OUT})
    if odd:
        raise UserError(f"{root / at} should have the folders train and test and no others (see {odd[0]}): "
                        "complete it, or move what does not belong there")  # fmt: skip
    return [
        Row(path, name, part)
        for part in PARTS
        for name in subfolders(root / at / part)
        for path in _class_images(root, f"{below}{part}/{name}")
    ]


def _is_divided(root: Path, at: str) -> bool:
    """Whether there is a folder train or test that is no class of that name."""
    names = [name for name in subfolders(root / at) if name.lower() in PARTS and not images(root / at, name)]
    for name in names:
        if name not in PARTS and subfolders(root / at / name):
            raise UserError(f"the folder {root / at / name} looks like a part of a division: call it {name.lower()}")
    return any(name in PARTS for name in names)


def _class_images(root: Path, folder: str) -> list[str]:
    return images(root, folder) or [f"{folder}/"]  # a client may lack a class; that nobody has it is checked later


def images(root: Path, folder: str) -> list[str]:
    """The images directly in a folder that are not empty files, sorted, as paths relative to the root."""
    names = [e.name for e in os.scandir(root / folder) if layout.is_image(e) and e.stat().st_size]
    return [f"{folder}/{name}" for name in sorted(names)]


def subfolders(folder: Path) -> list[str]:
    """The folders in a folder, in natural order; hidden ones and links to a folder above are left out."""
    above = {os.path.realpath(folder), *map(str, Path(os.path.realpath(folder)).parents)}
    names = [
        entry.name
        for entry in os.scandir(folder)
        if layout.is_folder(entry)
        and not entry.name.startswith((".", "__MACOSX"))
        and not (entry.is_symlink() and os.path.realpath(entry) in above)
    ]
    for name in names:
        if not name.isprintable():  # bytes that are no text, or control characters
            raise UserError(f"the folder {name!a} in {folder} has a name that cannot be read as text: rename it")
    twice = [name for name, count in Counter(map(composed, names)).items() if count > 1]
    if twice:
        raise UserError(f"two folders in {folder} are called {twice[0]!r}, with accents that are stored in two ways: "
                        "merge them, or rename one")  # fmt: skip
    return sorted(names, key=_natural)


def read_table(path: Path) -> list[Row]:
    """Reads a CSV file: path (relative to the file's folder), label (the class name), and perhaps client,domain,split.

    Raises:
        UserError: columns or values are missing or wrong, with the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8 ({error.reason}): save it as a CSV file in UTF-8") from error
    header = text.split("\n", 1)[0]
    delimiter = ";" if header.count(";") > header.count(",") else ","  # as some spreadsheets write it
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, restval="", restkey="more")
    columns = reader.fieldnames or []
    odd = sorted(set(columns) - set(COLUMNS)) or [name for name in COLUMNS[:2] if name not in columns]
    if odd:
        raise UserError(f"{path} should have the columns path,label and perhaps split,client,domain (see {odd[0]!r})")
    rows: dict[str, Row] = {}
    for line in _lines(reader, path):
        where = f"line {reader.line_num} of {path}"
        if "more" in line or not all(line[name].strip() for name in columns):
            raise UserError(f"{where} should have a value for each of {','.join(columns)}: complete it")
        row = Row(*(line.get(name, "").strip() for name in COLUMNS))
        _check(row, path.parent, where)
        if rows.setdefault(os.path.normpath(row.path), row) is not row:
            raise UserError(f"{where} lists {row.path} for the second time: remove one of the lines")
    return list(rows.values())


def _lines(reader: csv.DictReader, path: Path) -> Iterator[dict[str, str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise UserError(f"line {reader.line_num + 1} of {path} cannot be read ({error}): correct it") from error


def _check(row: Row, folder: Path, where: str) -> None:
    layout.refuse_odd(row, f"file, class, client or domain in {where}")
    if row.part not in ("", *PARTS):
        raise UserError(f"{where} has the split {row.part!r}: write train or test")
    if row.path.startswith("/") or ".." in row.path.split("/"):
        raise UserError(f"{where} points outside the file's folder ({row.path}): put the CSV file above all images")
    if not os.path.isfile(folder / row.path):
        raise UserError(f"{where} names {row.path}, which is not there: correct the line or put the image there")


def composed(name: str) -> str:
    """A name with its accents stored in the one way (NFC): macOS stores them in another."""
    return unicodedata.normalize("NFC", name)


def _image_set(root: Path, rows: Sequence[Row], found: str, counts: dict[str, int]) -> ImageSet:
    rows = [Row(row.path, *map(composed, row[1:])) for row in rows]
    check_classes(root, rows)
    check_names(root, sorted({row.label for row in rows}))
    rows = [row for row in rows if not row.path.endswith("/")]
    names, clients, domains = (numbered(row[column] for row in rows) for column in (1, 3, 4))

    def entry(row: Row) -> layout.Entry:
        return layout.Entry(row.path, names[row.label], domains.get(row.domain, 0), clients.get(row.client, 0))

    train, test = (list(map(entry, part)) for part in divided(rows))
    facts = [f"{len(names)} classes"]
    facts += [f"{len(clients)} clients (partition: given)"] * bool(clients)
    facts += [f"{len(domains)} domains"] * bool(domains)
    facts += ["70/30 % per class with a fixed seed"] * any(not row.part for row in rows)
    animations = leftovers.first_frames(root, [row.path for row in rows])
    source = f"{found}: {', '.join(facts)}{leftovers.in_words(counts, animations)}"
    return layout.image_set(
        FOLDERS, root, tuple(names), train, test, source, True, tuple(domains), tuple(clients), upright=True)


def numbered(values: Iterable[str]) -> dict[str, int]:
    """Names and their numbers, in natural order; "" is none."""
    return {value: number for number, value in enumerate(sorted(set(values) - {""}, key=_natural))}


def check_classes(root: Path | str, rows: Sequence[Row]) -> None:
    """Refuses a class without images, or with test images alone; `root` is what the error calls the set."""
    present = {row.label for row in rows if not row.path.endswith("/")}
    trained = {row.label for row in rows if not row.path.endswith("/") and row.part != "test"}
    empty = sorted({row.path for row in rows if row.label not in present})
    if empty:
        raise UserError(f"{len(empty)} class folders under {root} have no images ({', '.join(empty[:3])}): "
                        "fill or remove them, then run again")  # fmt: skip
    if present - trained:
        raise UserError(f"the class {min(present - trained)!r} in {root} has test images but no training images: "
                        "add some, or remove it")  # fmt: skip


def check_names(root: Path | str, labels: Sequence[str]) -> None:
    """Refuses classes that CLIP could not tell apart, as its tokenizer reads neither case nor underscores."""
    seen: dict[str, str] = {}
    for label in labels:
        words = " ".join(label.replace("_", " ").split())
        if not words:
            raise UserError(f"a class in {root} is called {label!r}, which is no word that a prompt could end with: "
                            "rename it")  # fmt: skip
        other = seen.setdefault(words.lower(), label)
        if other != label:
            how = "case" if other.lower() == label.lower() else "underscores, spaces or case"
            raise UserError(f"the classes {other!r} and {label!r} in {root} differ only in {how}, which CLIP does not "
                            "see: merge them, or rename one")  # fmt: skip


def divided(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Training and test rows; what its layout does not divide, 70/30 per class of each client and domain, seeded.

    An image that is alone in its class is for training.
    """
    train, test = ([row for row in rows if row.part == part] for part in PARTS)
    groups = defaultdict(list)
    for row in rows:
        if not row.part:
            groups[row.client, row.domain, row.label].append(row)
    for key, group in groups.items():
        order = generator(layout.SPLIT_SEED, "split", FOLDERS, *key).permutation(len(group))
        count = max(1, min(round(TRAIN_SHARE * len(group)), len(group) - 1))
        train += [group[index] for index in sorted(order[:count])]
        test += [group[index] for index in sorted(order[count:])]
    return train, test


def _natural(name: str) -> list[tuple[int, str]]:
    """Orders client2 before client10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
