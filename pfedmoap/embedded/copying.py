"""Makes the small copy of Caltech101 that ships: `python -m pfedmoap.embedded.copying --root DIR --out FILE`."""

import argparse
import io
import zipfile
from pathlib import Path

from PIL import Image, ImageOps

from pfedmoap.data import read_image
from pfedmoap.errors import UserError
from pfedmoap.randomness import generator

FOLDER = "101_ObjectCategories"
PER_CLASS = 31
SHORT_SIDE, LONGEST = 112, 3 / 2  # pixels; longer pictures are cropped to this ratio
QUALITY = 80
DATE = (1980, 1, 1, 0, 0, 0)
LICENCE = """A small copy of Caltech 101.

F.-F. Li, M. Andreeto, M. Ranzato, P. Perona: Caltech 101. CaltechDATA, 2022. https://doi.org/10.22002/D1.20086
Licence: Creative Commons Attribution 4.0 International, https://creativecommons.org/licenses/by/4.0/

Changed: {per_class} images of each class were drawn with a fixed seed, cropped to 3:2 where they were longer,
reduced to {side} pixels on the short side, and saved anew as JPEG files.
"""


def copy(root: Path, out: Path) -> int:
    """Writes a zip archive of `class/file.jpg` and the licence; the same images give the same bytes.

    Args:
        root: the folder with `101_ObjectCategories`.
        out: the archive.

    Returns:
        The number of images.

    Raises:
        UserError: there are no images under the root.
    """
    folders = sorted(path for path in (root / FOLDER).glob("*") if path.is_dir())
    if not folders:
        raise UserError(f"{root} has no folder {FOLDER} with classes: give the folder that Caltech101 was unpacked to.")
    count = 0
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "LICENSE.txt", LICENCE.format(per_class=PER_CLASS, side=SHORT_SIDE).encode())
        for folder in folders:
            files = sorted(folder.glob("*.jpg"))
            chosen = generator(0, "copy of caltech101", folder.name).permutation(len(files))[:PER_CLASS]
            for file in (files[k] for k in sorted(chosen.tolist())):
                _add(archive, f"{folder.name}/{file.name}", _reduced(read_image(file)))
                count += 1
    return count


def _reduced(image: Image.Image) -> bytes:
    width, height = image.size
    size = min(width, round(LONGEST * height)), min(height, round(LONGEST * width))
    image = ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    scale = min(1.0, SHORT_SIDE / min(image.size))
    image = image.resize([round(scale * side) for side in image.size], Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, DATE)
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)


def main(arguments: list[str] | None = None) -> None:
    """Copies."""
    parser = argparse.ArgumentParser(description="Make the embedded copy of Caltech101.")
    parser.add_argument("--root", type=Path, required=True, help=f"folder with {FOLDER}")
    parser.add_argument("--out", type=Path, required=True, help="the archive")
    options = parser.parse_args(arguments)
    copy(options.root, options.out)


if __name__ == "__main__":
    main()
