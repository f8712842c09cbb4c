"""Runs on the CPU and on the pretended GPU; prints one line of JSON per case: how far they are apart, or the error.

    python tests/pretended/runs.py FOLDER [0|1]

With a number it is every second case, from the first or from the second on.
"""

import functools
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import torch
from cases import CASES, apart, finished, small
from gpu import NAME, PretendedGPU

from pfedmoap import client, clip
from pfedmoap.data import features
from pfedmoap.experiments import Experiment, Place, processor
from pfedmoap.federation import Round
from pfedmoap.methods import PromptFL


class Mixing(PromptFL):
    """Adds a number per client that stays in main memory."""

    def loss(self, model, fixed, images, labels, present, context):
        return super().loss(model, fixed, images, labels, present, context) + torch.zeros(len(images))


class Waiting(PromptFL):
    """Has the host look at every loss."""

    def loss(self, model, fixed, images, labels, present, context):
        loss = super().loss(model, fixed, images, labels, present, context)
        return loss / float(loss.detach().sum()) * loss.detach().sum()


class Uploading(PromptFL):
    """Sends zeros to the GPU in every step."""

    def loss(self, model, fixed, images, labels, present, context):
        return super().loss(model, fixed, images, labels, present, context) + torch.zeros(len(images)).to(images.device)


CASES = CASES | {"mixing": small(Mixing()), "waiting": small(Waiting()), "uploading": small(Uploading())}


def counted(runs: list[Experiment], place: Place) -> tuple[list[Round], int]:
    """Their rounds, and how often the host waits inside the local updates."""
    PretendedGPU.inside = 0
    return finished(runs, place), PretendedGPU.inside


def counting(local_update):
    @functools.wraps(local_update)
    def counting_update(*arguments):
        before = PretendedGPU.waits
        result = local_update(*arguments)
        PretendedGPU.inside += PretendedGPU.waits - before
        return result
    return counting_update


def compare(runs: list[Experiment], folder: Path) -> dict:
    expected = finished(runs, Place(cache=str(folder / "cpu")))
    try:
        with PretendedGPU():
            place = Place(cache=str(folder / NAME), device=NAME)  # so that it encodes the images, too
            ours, few = counted(runs, place)
            _, many = counted([replace(run, local_epochs=2) for run in runs], place)
    except RuntimeError as error:
        return {"error": str(error)}
    with PretendedGPU():
        feature_waits = _feature_waits(runs[0], folder)
    loss, accuracy = apart(ours, expected)
    return {"loss": loss, "accuracy": accuracy, "waits": [few, many], "rounds": len(ours),
            "feature_waits": feature_waits}


def _feature_waits(run: Experiment, folder: Path) -> int:
    """How often the host waits between handing over a batch of images and having its features."""
    loaded = clip.load_clip(run.model, run.weights, device=NAME, precision=run.precision)
    pixels = torch.zeros(4, 3, loaded.image_size, loaded.image_size, dtype=torch.uint8)
    loaded.normalise(pixels.to(NAME))
    before = PretendedGPU.waits
    loaded.encode_images(loaded.normalise(pixels.to(NAME, non_blocking=True)))
    return PretendedGPU.waits - before


def main() -> None:
    torch.set_num_threads(1)
    processor.SLOW = math.inf  # on any processor
    clip.read_state_dict = functools.cache(clip.read_state_dict)  # read on the CPU: safetensors knows no such tensors
    features.BATCH = features.GPU_BATCH = 8  # which the last images are filled up to
    PretendedGPU.inside = 0
    client.local_update = counting(client.local_update)
    folder, *half = sys.argv[1:]
    for name in list(CASES)[int(half[0]) :: 2] if half else CASES:
        print(json.dumps({"case": name, **compare(CASES[name], Path(folder))}), flush=True)


if __name__ == "__main__":
    main()
