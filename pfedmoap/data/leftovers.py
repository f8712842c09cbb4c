"""What lies in folders of images and is left out, or read in part: counted, so that nothing goes missing unsaid."""

import os
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path, PurePosixPath

from PIL import Image

from pfedmoap.data import layout

BY_SYSTEMS = frozenset(("Thumbs.db", "ehthumbs.db", "desktop.ini", "Icon\r"))  # besides what starts with a dot
MOVING = (".gif", ".webp")
PLURALS = {
    "hidden file": "hidden files",
    "empty file": "empty files",
    "broken link": "broken links",
    "file that is no image": "files that are no images",
    "image outside a class folder": "images outside class folders",
    "folder inside a class folder": "folders inside class folders",
}


def left_out(root: Path, used: Collection[str]) -> dict[str, int]:
    """How much of what lies beside the images that are used is left out, by kind (a key of `PLURALS`).

    Args:
        root: the set's folder.
        used: paths of the images relative to it; one that ends in "/" is a class folder without images.
    """
    classes = {os.path.dirname(path) for path in used}
    above = {str(parent) for folder in classes for parent in PurePosixPath(folder).parents}
    files, counts = set(used), Counter[str]()
    for folder in classes | above:
        for entry in os.scandir(root / folder):
            if layout.is_folder(entry):
                counts["folder inside a class folder"] += folder in classes and not entry.name.startswith(".")
            elif os.path.join(folder, entry.name).removeprefix("./") not in files:
                counts[_kind(entry)] += 1
    return {kind: counts[kind] for kind in PLURALS if counts[kind]}


def first_frames(root: Path, used: Collection[str]) -> int:
    """How many of the files are animations, of which the first frame is used; those that cannot be read do not count.
    """
    moving = 0
    for path in used:
        if path.lower().endswith(MOVING):
            with suppress(Exception), Image.open(root / path) as image:  # decoders raise whatever they like
                moving += getattr(image, "is_animated", False)
    return moving


def in_words(counts: dict[str, int], moving: int) -> str:
    """Such as "; left out: 2 hidden files; first frame of 1 animation"; "" if there is nothing to say."""
    parts = [f"{count} {PLURALS[kind] if count > 1 else kind}" for kind, count in counts.items()]
    words = f"; left out: {', '.join(parts)}" if parts else ""
    return words + f"; first frame of {moving} animation{'s' * (moving > 1)}" * bool(moving)


def _kind(entry: os.DirEntry) -> str:
    if entry.name.startswith(".") or entry.name in BY_SYSTEMS:
        return "hidden file"
    if os.path.splitext(entry.name)[1].lower() not in layout.SUFFIXES:
        return "file that is no image"
    if not os.path.isfile(entry):
        return "broken link"
    return "image outside a class folder" if os.stat(entry).st_size else "empty file"
