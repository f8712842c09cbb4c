"""How good an embedded CLIP is: zero-shot and linear-probe accuracy on the embedded sets."""

import numpy as np
import torch
from open_clip.model import CLIP
from torch.nn import functional as F

from pfedmoap.data import ImageSet
from pfedmoap.embedded.captions import tokens
from pfedmoap.embedded.sets import load
from pfedmoap.embedded.tower import inputs


@torch.no_grad()
def image_features(model: CLIP, pictures: np.ndarray) -> torch.Tensor:
    """Normalised features of (n, 32, 32, 3) uint8 pictures: (n, d)."""
    pieces = (model.encode_image(inputs(part), normalize=True) for part in _parts(pictures))
    return torch.cat(list(pieces))


@torch.no_grad()
def text_features(model: CLIP, texts: list[str]) -> torch.Tensor:
    """Normalised features of texts whose words and full stops are separated by spaces: (n, d)."""
    padded = torch.zeros(len(texts), model.context_length, dtype=torch.long)
    for row, text in zip(padded, texts, strict=True):
        ids = tokens(tuple(text.split()))
        row[: len(ids)] = torch.tensor(ids)
    return model.encode_text(padded, normalize=True)


def zero_shot(model: CLIP, images: ImageSet) -> float:
    """Accuracy of "a photo of a {name}." on the test split."""
    classes = text_features(model, [f"a photo of a {name} ." for name in images.class_names])
    guesses = (image_features(model, images.test.images.as_array()) @ classes.T).argmax(1)
    return float((guesses.numpy() == images.test.labels).mean())


def linear_probe(model: CLIP, images: ImageSet, steps: int = 300) -> float:
    """Test accuracy of softmax regression on the training split's features."""
    train, test = (image_features(model, s.images.as_array()) for s in (images.train, images.test))
    labels = torch.from_numpy(images.train.labels)
    torch.manual_seed(0)
    probe = torch.nn.Linear(train.shape[1], len(images.class_names))
    optimiser = torch.optim.AdamW(probe.parameters(), lr=0.05, weight_decay=0.01)
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(10 * probe(train), labels).backward()
        optimiser.step()
    return float((probe(test).argmax(1).numpy() == images.test.labels).mean())


def figures_of_merit(model: CLIP, names: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Per set: its number of classes, zero-shot and linear-probe accuracy."""
    table = {}
    for name in names:
        images = load(name)
        table[name] = {
            "classes": len(images.class_names),
            "zero_shot": round(zero_shot(model, images), 4),
            "linear_probe": round(linear_probe(model, images), 4),
        }
    return table


def _parts(pictures: np.ndarray, size: int = 512) -> list[np.ndarray]:
    return [pictures[start : start + size] for start in range(0, len(pictures), size)]
