"""Training views of an image: random crops and flips, from a generator of their own (SPEC 5)."""

import numpy as np
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF


def training_pixels(image: Image.Image, size: int, rng: np.random.Generator) -> Tensor:
    """One training view: random resized crop (area 8 to 100 %, bicubic) and flip. (3, size, size), uint8."""
    width, height = image.size
    top, left, rows, columns = crop_box(height, width, rng)
    image = TF.resized_crop(image, top, left, rows, columns, [size, size], InterpolationMode.BICUBIC)
    if rng.random() < 0.5:
        image = TF.hflip(image)
    return TF.pil_to_tensor(image).contiguous()


def crop_box(height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """torchvision's RandomResizedCrop box, with the randomness of `rng`: (top, left, height, width)."""
    for _ in range(10):
        area = height * width * rng.uniform(0.08, 1.0)
        aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        columns, rows = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < columns <= width and 0 < rows <= height:
            return int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1)), rows, columns
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side
