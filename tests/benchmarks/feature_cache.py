"""The feature cache against a bare loop "decode, preprocess, encode" with the same batch, side by side.

Both read the same JPEG files with the same CLIP, in turns, and every turn of the cache starts empty. The embedded CLIP
is so small that whatever the cache does besides is seen best; --rn50 takes CLIP's RN50 with random weights instead.
Prints images per second and the ratio; with --views V training views of every image also, which share of that time
the tower would need by itself: how busy a GPU is. Then the time of a second call (nothing to compute), and how long
`prepare`, loading CLIP included, takes when all features are cached. With --cifar10, also the time to load and
partition CIFAR-10's 60,000 files.

    python tests/benchmarks/feature_cache.py [--images 960] [--repeats 3] [--rn50] [--views 8] [--device cuda]
                                             [--precision bf16] [--cifar10 DATA_ROOT]
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
from measuring import wait_for_gpu
from PIL import Image
from safetensors.torch import save_model

from pfedmoap import clip as clips
from pfedmoap import experiments
from pfedmoap.data import ImageSet, catalog, image_features, partition
from pfedmoap.data.features import BATCH, GPU_BATCH
from pfedmoap.experiments import Place, load_dataset, prepare
from pfedmoap.methods import PFedMoAP


def write_photographs(folder: Path, count: int) -> None:
    """JPEG files of 300 x 200 pixels in ten classes: smooth noise, which costs about what a photograph costs."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"class {number % 10}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (25, 38, 3), dtype=np.uint8))
        small.resize((300, 200), Image.Resampling.BICUBIC).save(path, quality=90)


def bare_loop(clip: clips.Clip, imageset: ImageSet) -> np.ndarray:
    """What anyone would write without a cache."""
    features = []
    for start in range(0, len(imageset.train), BATCH):
        indices = range(start, min(start + BATCH, len(imageset.train)))
        batch = torch.stack([clip.preprocess(imageset.train.images[index]) for index in indices])
        features.append(clip.encode_images(batch).cpu().numpy())
    return np.concatenate(features)


def write_rn50(path: Path) -> str:
    """CLIP's RN50 at random weights: speed does not depend on them."""
    logging.disable(logging.WARNING)  # open_clip's, that the weights are random
    save_model(open_clip.create_model("RN50-quickgelu", pretrained_text=False), path)
    logging.disable(logging.NOTSET)
    return str(path)


def timed(action, *arguments, **settings) -> tuple[tuple[float, float], object]:
    """(wall seconds, processor seconds) and the result; what else runs on the machine disturbs the first more."""
    began, used = time.perf_counter(), time.process_time()
    result = action(*arguments, **settings)
    return (time.perf_counter() - began, time.process_time() - used), result


def compare(clip: clips.Clip, imageset: ImageSet, folder: Path, repeats: int) -> None:
    """Prints what both sides take."""
    clip.encode_images(clip.preprocess(imageset.train.images[0])[None])  # what is made once is made before
    clip.fingerprint  # noqa: B018
    seconds = {"bare loop": [], "cache": []}
    for repeat in range(repeats):
        took, bare = timed(bare_loop, clip, imageset)
        seconds["bare loop"].append(took)
        place = folder / str(repeat)
        took, cached = timed(image_features, clip, imageset, "train", cache_dir=place, progress=False)
        seconds["cache"].append(took)
    images = len(imageset.train)
    size = BATCH if clip.device.type == "cpu" else GPU_BATCH
    print(f"{images} images of 300 x 200, {clip.name}, batches of {BATCH}, of the cache {size}, "
          f"{torch.get_num_threads()} torch threads, "
          f"{len(os.sched_getaffinity(0))} cores; medians of {repeats}, in brackets the range")
    for number, clock in enumerate(("wall", "processor")):
        bare_times, cache_times = ([took[number] for took in side] for side in seconds.values())
        for side, times in (("bare loop", bare_times), ("cache", cache_times)):
            rate, slowest, fastest = (images / value for value in (statistics.median(times), max(times), min(times)))
            print(f"{side:9} {rate:8.1f} images/s of {clock} time ({slowest:.1f} to {fastest:.1f})")
        ratios = [bare_time / cache_time for bare_time, cache_time in zip(bare_times, cache_times, strict=True)]
        print(f"ratio     {statistics.median(ratios):8.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"largest difference of a feature {np.abs(bare - cached[0]).max():.1e}")
    (took, _), _ = timed(image_features, clip, imageset, "train", cache_dir=place, progress=False)
    print(f"second call {1000 * took:.0f} ms")


def busy(clip: clips.Clip, imageset: ImageSet, folder: Path, views: int) -> tuple[float, float]:
    """Images per second of training views, decoding included, and of the tower alone: their ratio is how busy it is."""
    size = BATCH if clip.device.type == "cpu" else GPU_BATCH
    images = torch.randn(size, 3, clip.image_size, clip.image_size).to(clip.device)
    count = views * len(imageset.train)
    clip.encode_images(images)
    wait_for_gpu()
    (alone, _), _ = timed(lambda: [clip.encode_images(images) for _ in range(-(-count // size))] and wait_for_gpu())
    (took, _), _ = timed(image_features, clip, imageset, "train", views, cache_dir=folder, progress=False)
    return count / took, count / alone


def second_start(data_root: Path, folder: Path, model: str, weights: str | None, device: str) -> None:
    experiment = experiments.from_profile("folders", PFedMoAP(), "quick", clients=5, model=model, weights=weights)
    place = Place(str(data_root), str(folder / "prepare"), device)
    prepare(experiment, place)
    clips.load_clip.cache_clear()  # as in a new process
    (took, _), _ = timed(prepare, experiment, place)
    print(f"from prepare() to the first training step, all features cached: {took:.2f} s")


def load_cifar10(root: str) -> None:
    for turn in ("first scan", "after it"):
        (loading, _), imageset = timed(catalog.load, "cifar10", root)
        (dealing, _), _ = timed(partition, imageset, "dirichlet", clients=100, seed=1)
        count = len(imageset.train) + len(imageset.test)
        print(f"CIFAR-10, {count} images, {turn}: loaded in {loading:.2f} s, dealt to 100 clients in {dealing:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=960)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rn50", action="store_true")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--cifar10", metavar="DATA_ROOT")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photographs(folder / "images" / "train", arguments.images)
        write_photographs(folder / "images" / "test", 60)
        imageset = load_dataset("folders", folder / "images")
        model, weights = "embedded_clip", None
        if arguments.rn50:
            model, weights = "RN50-quickgelu", write_rn50(folder / "rn50.safetensors")
        clip = clips.load_clip(model, weights, device=arguments.device, precision=arguments.precision)
        compare(clip, imageset, folder / "cache", arguments.repeats)
        rate, alone = busy(clip, imageset, folder / "busy", arguments.views)
        print(f"{arguments.views} training views of every image: {rate:.0f} images/s, the tower alone {alone:.0f}: "
              f"busy for {100 * rate / alone:.0f} % of the time")
        second_start(folder / "images", folder, model, weights, arguments.device)
    if arguments.cifar10:
        load_cifar10(arguments.cifar10)


if __name__ == "__main__":
    main()
