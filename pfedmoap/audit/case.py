"""The golden case that implementations are audited on: a few coded features, five clients, a CLIP at random weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from pfedmoap.clip import Clip
from pfedmoap.method import Context
from pfedmoap.prompts import PromptEncoder, TextFeatures, initial_prompt
from pfedmoap.randomness import generator

NAMES = ("cat", "sea lion", "old red car", "dog", "violin", "lighthouse", "a", "pocket orchid")
SIZES = (8, 5, 6, 3, 7)  # training images of each client
TESTS = 4  # test images of each client
WIDTH, CONTEXT_TOKENS = 32, 4  # d, m


class Images(NamedTuple):
    """Features of images, of length 1, (n, d), and their labels, (n,) int64."""

    features: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class Case:
    """A tiny federated data set, and the frozen CLIP that goes with it.

    Attributes:
        names: class names, in label order.
        train, test: the two splits, as they are listed on disk.
        train_rows, test_rows: every client's images, ascending rows of the splits.
        probes: (B, d) features that are in neither split, to be predicted.
        rounds: T, for implementations that have to know how long a run is.
        seed: of whatever an implementation draws.
    """

    names: tuple[str, ...]
    train: Images
    test: Images
    train_rows: tuple[np.ndarray, ...]
    test_rows: tuple[np.ndarray, ...]
    probes: Tensor
    rounds: int = 3
    seed: int = 1

    @property
    def clients(self) -> int:
        return len(self.train_rows)

    @property
    def clip(self) -> Clip:
        """The frozen CLIP; `clip.model` is open_clip's model."""
        return tiny_clip()

    @cached_property
    def context(self) -> Context:
        """`text`: prompts (..., m, e) -> text features (..., C, d); `initial_prompt` (m, e); `logit_scale`."""
        return self.context_of(self.names)

    def context_of(self, names: Sequence[str]) -> Context:
        """As `context`, with other names."""
        encoder = PromptEncoder(self.clip, names)
        prompt = initial_prompt(CONTEXT_TOKENS, self.clip.token_width, self.seed)
        return Context(TextFeatures(encoder), encoder.handwritten(), 20.0, prompt, self.seed)

    def own(self, client: int) -> Images:
        """A client's training images."""
        rows = torch.from_numpy(self.train_rows[client])
        return Images(self.train.features[rows], self.train.labels[rows])

    def with_features(self, client: int) -> "Case":
        """The same case, with other training images of one client."""
        features, rows = self.train.features.clone(), torch.from_numpy(self.train_rows[client])
        features[rows] = F.normalize(features[rows].flip(-1) + 0.3, dim=-1)
        return replace(self, train=Images(features, self.train.labels))


@lru_cache
def tiny_clip() -> Clip:
    """A CLIP of a few thousand random weights, the same in every process."""
    vision = {"image_size": 16, "layers": 1, "width": 64, "patch_size": 4}
    text = {"context_length": 40, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 3}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.CLIP(WIDTH, vision, text, quick_gelu=True).eval().requires_grad_(False)
        torch.nn.init.normal_(model.token_embedding.weight, std=0.3)  # names that differ visibly
    return Clip("RN50-quickgelu", "random", model, torch.device("cpu"), torch.float32)


def golden_case(sizes: Sequence[int] = SIZES, classes: Sequence[int] | None = None) -> Case:
    """Five clients with 3 to 8 training images; an image's features are its class's code and a little of its own.

    Args:
        sizes: training images of each client.
        classes: the labels that occur; None: all.
    """
    rng = generator(1, "audit")
    codes = torch.linalg.qr(torch.from_numpy(rng.standard_normal((WIDTH, WIDTH))).float())[0]
    occurring = np.arange(len(NAMES)) if classes is None else np.array(classes)

    def images(count: int) -> Images:
        labels = torch.from_numpy(rng.permutation(np.resize(occurring, count)))
        own = torch.from_numpy(rng.standard_normal((count, WIDTH))).float() / WIDTH**0.5
        return Images(F.normalize(codes[labels] + 0.3 * own, dim=-1), labels)

    def dealt(counts: Sequence[int]) -> tuple[np.ndarray, ...]:
        order = np.split(rng.permutation(sum(counts)), np.cumsum(counts)[:-1])
        return tuple(np.sort(rows) for rows in order)

    tests = [TESTS] * len(sizes)
    return Case(NAMES, images(sum(sizes)), images(sum(tests)), dealt(sizes), dealt(tests), images(6).features)
