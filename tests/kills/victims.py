"""What is killed, on the embedded CLIP and data; some write down what they did, to show that nothing is done twice."""

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pfedmoap import clip
from pfedmoap.data import features as extraction
from pfedmoap.data import image_features
from pfedmoap.experiments import Place, Store, from_profile, load_dataset, run, run_all
from pfedmoap.methods import CoOp, FedPer, PFedMoAP, PromptFL
from pfedmoap.released import Protocol

torch.set_num_threads(1)
VIEWS, IMAGES, BATCH = 2, 40, 8


def small(method=PFedMoAP(), **settings):
    return from_profile("digits", method, "smoke", **{"rounds": 8, "shots": 8} | settings)


RUNS = {"gates": small(), "own prompts": small(CoOp()), "some clients": small(FedPer(), participation=0.5),
        "one optimiser": small(PromptFL(), protocol=Protocol(optimizer="shared")),
        "short": small(rounds=2)}  # fmt: skip
GRID = [small(method, seed=seed, rounds=6) for seed in (1, 2) for method in (PromptFL(), PFedMoAP(), FedPer())]


def one_run(folder: str, cache: str, name: str) -> None:
    run(RUNS[name], Place(cache=cache), store=Store(folder), progress=False)


def grid(folder: str, cache: str) -> None:
    """With two workers. They are forked: a server that they came from would import everything anew after each kill."""
    forking = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda method=None: forking  # of this process
    run_all(GRID, Place(cache=cache), store=Store(folder), jobs=2, progress=False)


def noted_grid(folder: str, cache: str) -> None:
    """In one process; adds a line to `done` for every round that was trained."""
    save_checkpoint, put = Store.save_checkpoint, Store.put

    def noted_checkpoint(store, experiment, tensors, state):
        note(store.folder / "done", f"{experiment.key} {len(state['history'])}")
        save_checkpoint(store, experiment, tensors, state)

    def noted_put(store, experiment, record):
        note(store.folder / "done", f"{experiment.key} {len(record['rounds'])}")
        put(store, experiment, record)

    Store.save_checkpoint, Store.put = noted_checkpoint, noted_put  # of this process, which ends with its work
    run_all(GRID, Place(cache=cache), store=Store(folder), jobs=1, progress=False)


def features(cache: str) -> None:
    """Extracts features; adds a line to `encoded` per batch."""
    loaded, imageset = clip.load_clip("embedded_clip"), replace(load_dataset("nature"), augment=True)
    encode, extraction.BATCH = loaded.encode_images, BATCH  # of this process

    def noted(images):
        note(Path(cache) / "encoded", str(len(images)))
        return encode(images)

    object.__setattr__(loaded, "encode_images", noted)
    image_features(loaded, imageset, "train", VIEWS, cache_dir=cache, indices=np.arange(IMAGES), progress=False)


def note(path: Path, line: str) -> None:
    """Appended by one call, so that processes do not mix their lines."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{line}\n".encode())
    os.close(file)
