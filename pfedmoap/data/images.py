"""Images in files or in memory, as sequences of RGB images."""

import io
import os
import stat
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from pfedmoap.errors import UserError

# Mean and standard deviation of a channel, as released federated code uses them for these sets.
CIFAR = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}

MOST_ELONGATED = 100  # long to short side; the short side is enlarged to CLIP's, and memory would not hold the long one


class ImageFiles(Sequence[Image.Image]):
    """Images on disk in a fixed order; a file is opened only when its image is asked for.

    Args:
        paths: one file per image; kept as strings, as a set may have a hundred thousand.
        upright: turn photographs as their EXIF data say (see `read_image`).
    """

    def __init__(self, paths: Iterable[str | Path], upright: bool = False):
        self.paths = tuple(map(os.fspath, paths))
        self.upright = upright

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Image.Image:
        return read_image(self.paths[index], self.upright)


class ImageArray(Sequence[Image.Image]):
    """Images that are in memory already.

    Args:
        pixels: (n, H, W, 3) uint8.
    """

    def __init__(self, pixels: np.ndarray):
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])


def read_image(path: str | Path, upright: bool = False, content: bytes | None = None) -> Image.Image:
    """Decodes a whole image file to mode RGB; of an animation or a file of several pages, the first picture.

    Args:
        path: the file.
        upright: turn it as its EXIF data say, so that CLIP sees what people see. Benchmark sets are read without, as
            torchvision reads them.
        content: the file's bytes, if they are at hand; `path` is then what errors call it.

    Raises:
        UserError: the file is missing, unreadable, truncated, no image, too large or too narrow.
    """
    try:
        if content is None and not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would never end
            raise OSError("it is no file")
        with Image.open(path if content is None else io.BytesIO(content), formats=_formats()) as image:
            width, height = image.size
            if max(width, height) <= MOST_ELONGATED * min(width, height):
                image.load()
                return to_rgb(ImageOps.exif_transpose(image) if upright else image)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: put it back, then run again") from None
    except PermissionError:
        raise UserError(f"{path} may not be read: change its permissions, then run again") from None
    except Image.DecompressionBombError:
        most = 2 * Image.MAX_IMAGE_PIXELS // 10**6  # PIL's own limit
        raise UserError(f"{path} has more than {most} million pixels: make it smaller or remove it, then run again"
                        ) from None  # fmt: skip
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ... for broken files
        raise UserError(f"{path} cannot be read as an image ({error}): delete or replace it, then run again") from error
    raise UserError(f"{path} is a strip of {width} x {height} pixels: crop it or remove it, then run again")


@cache
def _formats() -> tuple[str, ...]:
    """Pillow's formats but PostScript, which it would have Ghostscript execute."""
    Image.init()
    return tuple(name for name in Image.ID if name != "EPS")


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts any PIL mode to RGB.

    Alpha is dropped, not blended, as CLIP's own preprocessing does: some OxfordPets photographs have an alpha channel.
    """
    if image.mode.startswith("I"):
        # PIL clips 16-bit gray at 255 where it should scale, and opens it as "I;16", "I;16B" or "I" by file format.
        gray = np.asarray(image).astype(np.int64) >> 8
        image = Image.fromarray(gray.clip(0, 255).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def cifar_view(image: Image.Image, name: str, size: int) -> Tensor:
    """The released code's view of CIFAR (protocol switch `cifar_preprocess`), for training and for testing.

    Normalised by CIFAR's mean and standard deviation, then enlarged: (3, size, size), bilinear.
    """
    pixels = TF.normalize(TF.to_tensor(image), *CIFAR[name])  # (3, 32, 32)
    return TF.resize(pixels, [size, size], InterpolationMode.BILINEAR)
