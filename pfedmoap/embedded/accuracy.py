"""How well a CLIP reads image sets, without and with training on them."""

from collections.abc import Iterable

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from pfedmoap.clip import Clip
from pfedmoap.data import ImageSet, Split

PROBE_STRENGTH = 100.0  # inverse of the regularisation of the linear probe, on normalised features
BATCH = 32


def zero_shot(clip: Clip, imageset: ImageSet) -> float:
    """Accuracy of "a photo of a {name}." on the test split."""
    classes = clip.encode_texts([f"a photo of a {name}." for name in imageset.class_names]).numpy()  # (C, d)
    return float(((_features(clip, imageset.test) @ classes.T).argmax(1) == imageset.test.labels).mean())


def linear_probe(clip: Clip, imageset: ImageSet) -> float:
    """Test accuracy of softmax regression on the training split's features."""
    probe = LogisticRegression(C=PROBE_STRENGTH, max_iter=1000).fit(_features(clip, imageset.train),
                                                                    imageset.train.labels)  # fmt: skip
    return float(probe.score(_features(clip, imageset.test), imageset.test.labels))


def accuracies(clip: Clip, imagesets: Iterable[ImageSet]) -> dict[str, dict[str, float]]:
    """Per set: its number of classes and of test images, zero-shot and linear-probe accuracy."""
    return {imageset.name: {"classes": len(imageset.class_names), "test_images": len(imageset.test),
                            "zero_shot": round(zero_shot(clip, imageset), 4),
                            "linear_probe": round(linear_probe(clip, imageset), 4)}
            for imageset in imagesets}


def _features(clip: Clip, split: Split) -> np.ndarray:
    """(n, d), normalised."""
    numbers = range(0, len(split), BATCH)
    batches = ([clip.preprocess(split.images[k]) for k in range(start, min(start + BATCH, len(split)))]
               for start in numbers)
    return torch.cat([clip.encode_images(torch.stack(batch)) for batch in batches]).cpu().numpy()
