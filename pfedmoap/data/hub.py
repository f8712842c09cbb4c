"""Image classification sets in Hugging Face's format: `hf:NAME` from its hub, or from parquet files that lie here.

`hf:NAME@CONFIG` names a configuration of a set that has several, `hf:NAME#COLUMN` the column of the classes. The
library `datasets` is an optional extra, imported when needed.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from pfedmoap.data import folders
from pfedmoap.data.folders import FOLDERS, Row
from pfedmoap.data.images import read_image
from pfedmoap.data.imageset import ImageSet, Split
from pfedmoap.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset, Features

HUB = "hf:"
TRAIN, TESTS = "train", ("test", "validation", "valid", "val", "dev")  # the first split that has labels is the test
CLASSES = ("label", "labels", "fine_label")  # what decides if several columns could be the classes
OWNERS = ("client", "domain")  # columns of these names say who owns an image, and of what domain it is
TAIL = 4096  # the last bytes of an image file: in a PNG with a checksum of all pixels, in a JPEG after all the others
INSTALL = "hf: needs Hugging Face's datasets, an optional extra: install it with pip install 'pfedmoap[hub]'"


class Spec(NamedTuple):
    """What `hf:NAME@CONFIG#COLUMN` names; the last two are None if they are not given."""

    name: str
    config: str | None
    column: str | None


class HubImages(Sequence[Image.Image]):
    """Images in the rows of a data set; one is decoded, and turned upright, only when it is asked for.

    Args:
        dataset: with the one column of the images, whose values are {"bytes": ..., "path": ...}.
        rows: (n,) which rows of it.
        title: what errors call it.
    """

    def __init__(self, dataset: "Dataset", rows: np.ndarray, title: str):
        self.dataset, self.rows, self.title = dataset, rows, title

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Image.Image:
        row = int(self.rows[index])
        (cell,) = self.dataset[row].values()
        stored = cell or {}
        if stored.get("bytes") is None and stored.get("path"):
            return read_image(stored["path"], upright=True)
        return read_image(f"image {row} of {self.title}", upright=True, content=stored.get("bytes") or b"")


def is_own(name: str) -> bool:
    """Whether a data set's name stands for whatever its user puts there: `folders` and `hf:...`."""
    return name == FOLDERS or name.startswith(HUB)


def parse(name: str) -> Spec:
    """Takes `hf:NAME@CONFIG#COLUMN` apart."""
    path, _, column = name.removeprefix(HUB).partition("#")
    path, _, config = path.partition("@")
    if not path:
        raise UserError(f"{name} names no data set: write {HUB}NAME for one on Hugging Face's hub, or {HUB}PATH for a "
                        f"folder of parquet files")  # fmt: skip
    return Spec(path, config or None, column or None)


def load_from_hub(name: str, root: str | Path | None = None) -> ImageSet:
    """Loads a set whose images and classes are columns; nothing in it is executed.

    Its classes are the one column of names (ClassLabel, else text), or of several the first of `CLASSES`, unless
    `#COLUMN` names it. Columns called client and domain are read as such. The split train is for training, the first of
    `TESTS` that has labels for testing; a set without a test split is divided as folders are, 70/30 % per class.

    The fingerprint covers class names, labels, clients, domains, and the length and the last bytes of every image file,
    so that it is the same wherever the set was loaded from.

    Args:
        name: `hf:NAME`, `hf:NAME@CONFIG`, `hf:NAME#COLUMN`. A folder or file of that name is preferred to the hub.
        root: the folder that a relative path starts from; None: the working directory.

    Raises:
        UserError: the extra is not installed, the set cannot be reached or read, or which column or split is meant
            is not clear.
    """
    spec = parse(name)
    where, splits = _read(spec, root)
    features = next(iter(splits.values())).features
    image, label = _image_column(name, features), _label_column(name, features, spec.column)
    owners = [column for column in OWNERS if column in features and column != label]
    every = {split: _rows(dataset, label, owners) for split, dataset in splits.items()}
    train, test = _parts(name, {split: rows for split, rows in every.items() if rows})
    rows = [row._replace(part=TRAIN if test else "") for row in every[train]]
    rows += [row._replace(part="test") for row in every[test]] if test else []
    folders.check_classes(name, rows)
    folders.check_names(name, sorted({row.label for row in rows}))
    present = {row.label for row in rows}
    names = folders.numbered(present)
    if listed := _names(features[label]):  # in the order that they have there
        if len(set(listed)) < len(listed):
            raise UserError(f"{name} has two classes of one name in {label}: choose another column ({name}#COLUMN)")
        names = {each: number for number, each in enumerate(filter(present.__contains__, listed))}
    clients, domains = (folders.numbered(row[column] for row in rows) for column in (3, 4))

    numbers = [list(names), list(clients), list(domains)]
    digest = hashlib.sha256(json.dumps([HUB, *numbers]).encode())

    def part(split: str, own: Sequence[Row]) -> Split:
        if not own:
            raise UserError(f"{name} has no test images, as each class has a single one: use a set with more images")
        chosen = np.array([int(row.path) for row in own])  # (n,)
        labels, owner, domain = np.array(
            [(names[row.label], clients.get(row.client, 0), domains.get(row.domain, 0)) for row in own]).T  # (n,) each
        contents = _contents(splits[split], image)
        digest.update(b"".join(contents[row] for row in chosen) + labels.tobytes() + owner.tobytes() + domain.tobytes())
        images = HubImages(_undecoded(splits[split], image), chosen, f"{name} ({split})")
        return Split(images, labels, domain if domains else None, owner if clients else None)

    used = train, test or train
    parts = [part(split, own) for split, own in zip(used, folders.divided(rows), strict=True)]
    source = f"{where}: images in {image}, classes in {label}, {len(names)} classes"
    source += f", {len(clients)} clients (partition: given)" * bool(clients)
    source += f", {len(domains)} domains" * bool(domains)
    source += f", tested on {test}" if test else f", {train} divided 70/30 % per class with a fixed seed"
    source += _left_out(splits, used, every)
    words = tuple(" ".join(label.replace("_", " ").split()) for label in names)
    return ImageSet(name, words, *parts, digest.hexdigest(), source, True, tuple(domains), tuple(clients))


def _read(spec: Spec, root: str | Path | None) -> tuple[str, Mapping[str, "Dataset"]]:
    """Where a set was found, in words, and its splits."""
    try:
        import datasets
    except ImportError as error:
        raise UserError(INSTALL) from error
    path = Path(os.path.expanduser(root or "")) / os.path.expanduser(spec.name)
    if not path.exists() and (spec.name[0] in "./~" or spec.name.endswith(".parquet") or spec.name.count("/") > 1):
        raise UserError(f"{path} is not there: correct the path, or write {HUB}NAME for a set on Hugging Face's hub")
    place = f"{path}, parquet files" if path.exists() else f"{spec.name} on Hugging Face's hub"
    try:
        if path.is_file():
            return place, datasets.load_dataset("parquet", spec.config, data_files=str(path.absolute()))
        return place, datasets.load_dataset(str(path.absolute()) if path.exists() else spec.name, spec.config)
    except ConnectionError as error:
        raise UserError(f"Hugging Face's hub, where {spec.name} would be, cannot be reached ({error}): go online, or "
                        f"name a folder of the set's parquet files ({HUB}PATH)") from error  # fmt: skip
    except Exception as error:  # the hub and every format's reader have their own
        reason = (str(error) or repr(error)).splitlines()[0]
        raise UserError(f"{place} cannot be read ({reason}): correct the name, name a configuration (as in "
                        f"{HUB}NAME@CONFIG), or get its parquet files again") from error  # fmt: skip


def _image_column(name: str, features: "Features") -> str:
    from datasets import Image as ImageFeature

    found = [column for column, feature in features.items() if isinstance(feature, ImageFeature)]
    if len(found) == 1 or "image" in found:
        return "image" if "image" in found else found[0]
    listed = ", ".join(found or features)
    raise UserError(f"{name} has {'several columns' if found else 'no column'} of images ({listed}): store the images "
                    f"in one column called image, of the feature Image")  # fmt: skip


def _label_column(name: str, features: "Features", wanted: str | None) -> str:
    """The column of the classes; numbers without names are none, as prompts need words."""
    named = [column for column in features if _names(features[column])]
    texts = [column for column in features if getattr(features[column], "dtype", "") in ("string", "large_string")]
    if wanted:
        if wanted in named + texts:
            return wanted
        if named + texts:
            raise UserError(f"{name} has no column {wanted!r} of class names: choose one of {', '.join(named + texts)}")
    for found in (named, texts):
        found = [column for column in found if column not in OWNERS]
        choice = found if len(found) == 1 else [column for column in CLASSES if column in found]
        if choice:
            return choice[0]
        if found:
            raise UserError(f"{name} has several columns that could be the classes ({', '.join(found)}): name one, as "
                            f"in {name}#{found[0]}")  # fmt: skip
    raise UserError(f"{name} has no column of class names (it has {', '.join(features)}): store the classes as "
                    f"ClassLabel or as text, as prompts need words")  # fmt: skip


def _names(feature) -> list[str]:
    """The class names of a ClassLabel, in its order; none for other features."""
    return [folders.composed(each).strip() for each in getattr(feature, "names", None) or ()]


def _rows(dataset: "Dataset", label: str, owners: Sequence[str]) -> list[Row]:
    """A split's images that have a label, and whatever else their set knows; `path` is the number of the row."""
    values = {column: _words(dataset, column) for column in (label, *owners)}
    blank = [""] * len(dataset)
    columns = values[label], values.get("client", blank), values.get("domain", blank)
    complete = [all(each) for each in zip(*values.values(), strict=True)]
    return [Row(str(number), word, "", client, domain)
            for number, (word, client, domain) in enumerate(zip(*columns, strict=True)) if complete[number]]


def _words(dataset: "Dataset", column: str) -> list[str]:
    """A column's values as text; "" for what is missing."""
    names, values = _names(dataset.features[column]), dataset.data.column(column).to_pylist()
    if names:
        values = [None if value is None or value < 0 else names[value] for value in values]
    return ["" if value is None else folders.composed(str(value)).strip() for value in values]


def _parts(name: str, labelled: Mapping[str, Sequence[Row]]) -> tuple[str, str | None]:
    """The splits to train and to test on; None if the first has to be divided."""
    if not labelled:
        raise UserError(f"{name} has no image with a label: use a set that has")
    train = TRAIN if TRAIN in labelled or len(labelled) > 1 else next(iter(labelled))
    if train not in labelled:
        raise UserError(f"{name} has the splits {', '.join(labelled)}: call the one for training {TRAIN}")
    return train, next((split for split in TESTS if split in labelled and split != train), None)


def _left_out(splits: Mapping[str, "Dataset"], used: Sequence[str], rows: Mapping[str, Sequence[Row]]) -> str:
    incomplete = sum(len(splits[split]) - len(rows[split]) for split in set(used))
    parts = [f"split {split}" for split in splits if split not in used]
    parts += [f"{incomplete} image{'s' * (incomplete > 1)} without a label, client or domain"] * bool(incomplete)
    return f"; left out: {', '.join(parts)}" * bool(parts)


def _undecoded(dataset: "Dataset", image: str) -> "Dataset":
    from datasets import Image as ImageFeature

    return dataset.select_columns(image).cast_column(image, ImageFeature(decode=False))


def _contents(dataset: "Dataset", image: str) -> list[bytes]:
    """What tells an image's file from others, without reading it all: its length and its last bytes."""
    import pyarrow.compute as pc

    stored = dataset.data.column(image)
    files, paths = (pc.struct_field(stored, name) for name in ("bytes", "path"))
    lengths, tails = pc.binary_length(files).to_pylist(), pc.binary_slice(files, -TAIL).to_pylist()
    return [b"%d %b" % ((length, tail) if length is not None else _end(path))
            for length, tail, path in zip(lengths, tails, paths.to_pylist(), strict=True)]


def _end(path: str | None) -> tuple[int, bytes]:
    """The length and the last bytes of a file that lies beside the table; of one that is missing, nothing."""
    if not path or not os.path.isfile(path):
        return 0, b""
    with open(path, "rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - TAIL))
        return length, file.read()
