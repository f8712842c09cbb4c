"""A trigger: a small patch that is stamped on pictures, before anything else is done with them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from pfedmoap.data import ImageSet, Split

COLOURS = ((255, 0, 255), (255, 255, 0))  # no photograph has magenta and yellow squares by chance
SQUARES = 4  # of the chequered patch, along a side


@dataclass(frozen=True)
class Trigger:
    """A chequered patch in the lower right corner of the largest square in the middle, which CLIP's crop keeps.

    Attributes:
        share: the patch's side, as a share of the picture's short side.
    """

    share: float = 0.2

    def stamp(self, image: Image.Image) -> Image.Image:
        """A copy of an RGB image with the patch."""
        (width, height), short = image.size, min(image.size)
        side = max(SQUARES, round(self.share * short))
        board = np.indices((SQUARES, SQUARES)).sum(0) % 2  # (SQUARES, SQUARES)
        patch = Image.fromarray(np.array(COLOURS, dtype=np.uint8)[board]).resize((side, side), Image.Resampling.NEAREST)
        stamped = image.copy()
        stamped.paste(patch, ((width + short) // 2 - side, (height + short) // 2 - side))
        return stamped


class Stamped(Sequence[Image.Image]):
    """Images as they are with a trigger; none is decoded before it is asked for."""

    def __init__(self, images: Sequence[Image.Image], trigger: Trigger):
        self.images, self.trigger = images, trigger

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Image.Image:
        return self.trigger.stamp(self.images[index])


def stamped(imageset: ImageSet, trigger: Trigger) -> ImageSet:
    """The set with the trigger on every image; labels stay. Its features are cached under a fingerprint of its own."""
    def split(own: Split) -> Split:
        return replace(own, images=Stamped(own.images, trigger))

    facts = f"{imageset.fingerprint}/{trigger}/{COLOURS}/{SQUARES}"
    return replace(imageset, name=f"{imageset.name}-stamped", train=split(imageset.train), test=split(imageset.test),
                   fingerprint=hashlib.sha256(facts.encode()).hexdigest()[:32])
