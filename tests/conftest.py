"""A tiny CLIP at random weights, and small federations on random features."""

import multiprocessing
import os
import signal
from multiprocessing import forkserver

import numpy as np
import open_clip
import pytest
import torch

from pfedmoap.client import FederatedData
from pfedmoap.clip import Clip
from pfedmoap.methods import Context
from pfedmoap.prompts import PromptEncoder, TextFeatures, initial_prompt

PRELOADED = ["pfedmoap.experiments.runs", "pfedmoap.embedded.sets", "pfedmoap.batch.executing", "open_clip",
             "sklearn.datasets"]  # fmt: skip
multiprocessing.set_forkserver_preload(PRELOADED)
if "PYTEST_XDIST_WORKER" in os.environ:  # whichever test starts it, hundreds of processes then import nothing anew
    forkserver.ensure_running()

torch.set_num_threads(1)
NAMES = ("cat", "hard-leaved pocket orchid", "sea lion", "dog", "old red car", "a")


@pytest.fixture(scope="session")
def tiny_clip() -> Clip:
    torch.manual_seed(0)
    vision = {"image_size": 16, "layers": 1, "width": 64, "patch_size": 4}
    text = {"context_length": 40, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 3}
    model = open_clip.CLIP(32, vision, text, quick_gelu=True).eval().requires_grad_(False)
    torch.nn.init.normal_(model.token_embedding.weight, std=0.3)  # names that differ visibly
    return Clip("RN50-quickgelu", "random", model, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="session", autouse=True)
def features_cache(tmp_path_factory) -> str:
    """A folder of image features for all tests, of all processes: every photograph is encoded once."""
    folder = tmp_path_factory.getbasetemp()
    os.environ["PFEDMOAP_CACHE"] = str((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "features")
    return os.environ["PFEDMOAP_CACHE"]


@pytest.fixture(scope="session")
def context(tiny_clip) -> Context:
    return make_context(tiny_clip)


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


def hearing_interrupts() -> None:
    """For `preexec_fn`: shells start background jobs deaf to Ctrl-C, and their children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
