"""A contact sheet: a few images of every class with the class's name, to see at a glance that labels are right."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from pfedmoap.data.imageset import ImageSet
from pfedmoap.errors import UserError

PER_CLASS = 4
MOST_CLASSES = 120
THUMBNAIL, GAP, NAME_HEIGHT = 64, 6, 18  # pixels
WIDTH_TO_HEIGHT = 1.4


def contact_sheet(imageset: ImageSet, per_class: int = PER_CLASS) -> Image.Image:
    """Training images of every class, or of `MOST_CLASSES` evenly chosen ones, under the class's name."""
    classes = len(imageset.class_names)
    shown = np.unique(np.linspace(0, classes - 1, min(classes, MOST_CLASSES)).astype(int))
    cells = [_cell(imageset, label, per_class) for label in shown.tolist()]
    width, height = cells[0].size
    columns = max(1, min(len(cells), round((len(cells) * WIDTH_TO_HEIGHT * height / width) ** 0.5)))
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * width + GAP, rows * height + GAP), "white")
    for number, cell in enumerate(cells):
        sheet.paste(cell, (GAP + number // rows * width, GAP + number % rows * height))
    return sheet


def write_contact_sheet(imageset: ImageSet, path: Path) -> None:
    """Writes the sheet to an image file.

    Raises:
        UserError: the ending is none of an image file, or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(imageset).save(path)
    except ValueError as error:
        raise UserError(f"{path} has no ending of an image file: call it {path.stem or 'sheet'}.png") from error
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}): choose another place") from error


def _cell(imageset: ImageSet, label: int, per_class: int) -> Image.Image:
    members = np.flatnonzero(imageset.train.labels == label)
    chosen = members[np.unique(np.linspace(0, len(members) - 1, per_class).astype(int))] if len(members) else members
    cell = Image.new("RGB", (per_class * (THUMBNAIL + 2) + GAP, NAME_HEIGHT + THUMBNAIL + GAP), "white")
    text = f"{label} {imageset.class_names[label]}"
    draw, font = ImageDraw.Draw(cell), ImageFont.load_default(13)
    while draw.textlength(text, font) > cell.width - GAP:
        text = text.removesuffix("...")[:-1] + "..."
    draw.text((0, 0), text, "black", font)
    for number, image in enumerate(_thumbnails(imageset, chosen.tolist())):
        cell.paste(image, (number * (THUMBNAIL + 2), NAME_HEIGHT))
    return cell


def _thumbnails(imageset: ImageSet, indices: Sequence[int]) -> list[Image.Image]:
    """Squares with the whole image in them; small images are enlarged."""
    return [ImageOps.pad(imageset.train.images[i], (THUMBNAIL, THUMBNAIL), color="gray") for i in indices]
