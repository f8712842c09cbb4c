"""Small federations on random features, for a tiny CLIP at random weights (fixture `tiny_clip`)."""

import numpy as np
import torch

from pfedmoap.client import FederatedData
from pfedmoap.clip import Clip
from pfedmoap.methods import Context
from pfedmoap.prompts import PromptEncoder, TextFeatures, initial_prompt

NAMES = ("cat", "hard-leaved pocket orchid", "sea lion", "dog", "old red car", "a")


def make_context(clip: Clip, seed: int = 1, context_tokens: int = 4) -> Context:
    handwritten = torch.nn.functional.normalize(torch.randn(len(NAMES), 32, generator=torch.manual_seed(1)), dim=-1)
    prompt = initial_prompt(context_tokens, clip.token_width, seed)
    return Context(TextFeatures(PromptEncoder(clip, NAMES)), handwritten, 20.0, prompt, seed)


def make_data(train_sizes=(12, 9, 5, 3), tests=7, views=1, seed=0) -> FederatedData:
    """Random normalised features, clustered by class, for as many clients as there are sizes."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((len(NAMES), 32))

    def draw(count):
        labels = rng.integers(len(NAMES), size=count)
        features = centres[labels] + rng.standard_normal((count, 32))
        return torch.from_numpy(features / np.linalg.norm(features, axis=1, keepdims=True)).float(), labels

    total, clients = sum(train_sizes), len(train_sizes)
    train, train_labels = draw(total)
    test, test_labels = draw(tests * clients)
    train = train + 0.05 * torch.from_numpy(rng.standard_normal((views, total, 32))).float()
    rows = np.split(np.arange(total), np.cumsum(train_sizes)[:-1])
    return FederatedData(train, torch.from_numpy(train_labels), test, torch.from_numpy(test_labels), rows,
                         np.split(np.arange(tests * clients), clients))
