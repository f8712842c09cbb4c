"""Writes pictures of an embedded set into folders, as somebody's own images would lie there."""

from pathlib import Path

import numpy as np

from pfedmoap.data import Split
from pfedmoap.embedded import sets

CLASSES_PER_CLIENT = 5
IMAGES = {"train": 16, "test": 10}  # per class and client


def write_example(root: Path, dataset: str = "office") -> None:
    """Makes `clients/<domain>/{train,test}/<class>/*.png`: every domain a client that has half of the classes.

    Args:
        root: made if need be.
        dataset: an embedded set with domains.
    """
    imageset = sets.load(dataset)
    classes = len(imageset.class_names)
    for domain, client in enumerate(imageset.domain_names):
        own = (np.arange(CLASSES_PER_CLIENT) + domain * classes // len(imageset.domain_names)) % classes
        for label in own:
            for part, count in IMAGES.items():
                folder = root / "clients" / client / part / imageset.class_names[label].replace(" ", "_")
                folder.mkdir(parents=True, exist_ok=True)
                split: Split = getattr(imageset, part)
                members = np.flatnonzero((split.labels == label) & (split.domains == domain))
                for index in members[:count].tolist():
                    split.images[index].save(folder / f"{index:05d}.png")
