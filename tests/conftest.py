"""A tiny CLIP at random weights, its setting for a method, and one cache of features for all tests."""

import multiprocessing
import os
from multiprocessing import forkserver

import open_clip
import pytest
import torch
from tiny import make_context

from pfedmoap.batch.imports import PRELOADED
from pfedmoap.clip import Clip
from pfedmoap.methods import Context

multiprocessing.set_forkserver_preload([*PRELOADED, "sklearn.datasets"])
if "PYTEST_XDIST_WORKER" in os.environ:  # whichever test starts it, hundreds of processes then import nothing anew
    forkserver.ensure_running()

torch.set_num_threads(1)


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
