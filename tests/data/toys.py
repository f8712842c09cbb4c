"""A stand-in for CLIP's image side, and image sets in memory, for tests of the feature cache."""

import time

import numpy as np
import torch
from PIL import Image

from pfedmoap.data import ImageSet, Split

SIZE = 8


class FakeClip:
    """The part of a CLIP that the cache uses: preprocessing, and a fixed random linear map."""

    embed_dim = 5
    positions = 4
    image_size = SIZE
    device = torch.device("cpu")

    def __init__(self, seed=0, delay=0.0):
        self.fingerprint = f"{seed}" * 64
        self.name, self.weights = "linear", f"seed {seed}"
        self.map = torch.randn(3 * SIZE * SIZE, self.embed_dim, generator=torch.manual_seed(seed))
        self.delay = delay
        self.batches = 0

    def plain_pixels(self, image):
        return torch.from_numpy(np.array(image.resize((SIZE, SIZE)))).permute(2, 0, 1)

    def training_pixels(self, image, generator):
        left, top = generator.integers(0, image.width // 2, size=2)
        return self.plain_pixels(image.crop((left, top, left + image.width // 2, top + image.height // 2)))

    def normalise(self, pixels):
        return pixels.float() / 255

    def encode_images(self, batch):
        time.sleep(self.delay)
        self.batches += 1
        product = batch.flatten(1).double() @ self.map.double()  # in double: the same in any order
        return torch.nn.functional.normalize(product, dim=-1).float()


    def encode_spatial(self, batch):
        rolled = [self.encode_images(batch.roll(shift, -1)) for shift in range(self.positions)]
        return torch.stack(rolled, dim=1)  # (b, M, d)


class CountedImages(list):
    """Images in memory that count how often each was asked for."""

    def __init__(self, images):
        super().__init__(images)
        self.asked = []

    def __getitem__(self, index):
        self.asked.append(index)
        return super().__getitem__(index)


def toy_set(n=150, augment=True, fingerprint="ab" * 32):
    pixels = np.random.default_rng(n).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
    splits = [
        Split(CountedImages([Image.fromarray(image) for image in part]), np.zeros(len(part), dtype=np.int64))
        for part in (pixels, pixels[: n // 2, ::-1])
    ]
    return ImageSet("toy", ("thing",), *splits, fingerprint=fingerprint, source="", augment=augment)


def expected(clip, images):
    return clip.encode_images(clip.normalise(torch.stack([clip.plain_pixels(image) for image in images]))).numpy()
