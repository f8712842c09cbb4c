"""Stages that measure: calls of the benchmarks at the paper's sizes."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import feature_cache
import projection as projections
import roofline
import seeds
import torch
import training_step
import whole_run as whole_runs
from stages import ABSENT, Figure, Sizes, absent, staged

from pfedmoap import clip as clips
from pfedmoap.experiments import load_dataset
from pfedmoap.experiments.runs import SEEDS_PER_BATCH

PRECISIONS = ("fp32", "tf32", "bf16")
CIFAR_CLASSES = 10


@staged
def step(sizes: Sizes) -> Iterator[Figure]:
    """pFedMoAP's step with 9 experts, a batch of 16 and random weights; the plain one (`plain.py`) has 77 tokens."""
    few = [clients for clients in sizes.cohorts if clients <= 10]
    (first, *_) = rows = training_step.compare(sizes.model, sizes.device, sizes.classes, few, sizes.repeats, 1)
    plain = first["plain_s"] / first["clients"]
    yield Figure("1 client, plain", 1e3 * plain, "ms", note="fp32; a cohort takes it as many times")
    for row in rows:
        yield Figure(f"{of(row['clients'])}, {row['precision']}, loss differs from the plain one by",
                     row["loss_difference"])
    for clients in sizes.cohorts:
        for precision in PRECISIONS:
            yield from _step(sizes, clients, precision, clients * plain)
    yield absent("compiled", "the package compiles nothing")


def of(clients: int) -> str:
    return f"{clients} client{'s' * (clients > 1)}"


def _step(sizes: Sizes, clients: int, precision: str, plain: float) -> Iterator[Figure]:
    name = f"{of(clients)}, {precision}"
    if precision == "tf32" and not sizes.on_gpu:
        yield absent(name)
        return
    try:
        with roofline.arithmetic(precision):
            row = roofline.compare(sizes.model, precision, sizes.device, sizes.classes, clients, sizes.square,
                                   sizes.repeats)
    except torch.OutOfMemoryError:
        yield absent(name, "too little memory on this device")
        return
    for kind, seconds in {"launched": row["step_s"], "as a CUDA graph": row.get("graph_s")}.items():
        if seconds is None:
            yield absent(f"{name}, {kind}", "it cannot be captured" if "graph_s" in row else ABSENT)
            continue
        rate = row["gflop"] / seconds  # GFLOP/s
        yield Figure(f"{name}, {kind}", 1e3 * seconds, "ms", note=f"{plain / seconds:.1f} times as fast as plain")
        yield Figure(f"{name}, {kind}", rate / 1e3, "TFLOP/s",
                     note=f"{rate / row['alike_gflops']:.0%} of a matrix product of its shape, "
                          f"{rate / row['square_gflops']:.0%} of a square one of {sizes.square}")
    memory = f"{name}, peak memory"
    yield Figure(f"{name}, bytes moved", row["gigabytes_moved"], "GB", note=f"{row['flop_per_byte']:.0f} FLOP a byte")
    yield Figure(memory, row["peak_mib"], "MiB") if "peak_mib" in row else absent(memory)


@staged
def whole_run(sizes: Sizes) -> Iterator[Figure]:
    """From the first round to the last test, features given."""
    budget = dict(zip(("rounds", "epochs", "shots"), sizes.budget, strict=True))
    plain = whole_runs.one_plain_step(sizes.model, sizes.classes, sizes.device)
    for precision in ("bf16", "fp32"):
        row = whole_runs.measure(sizes.model, precision, sizes.device, budget, sizes.classes, sizes.clients,
                                 sizes.repeats, plain)
        yield Figure(precision, row["run_s"], "s", note=f"{row['steps']} steps of a client")
        yield Figure(f"{precision}, of which training", row["train_s"], "s")
        yield Figure(f"{precision}, of which tests", row["evaluate_s"], "s")
        yield Figure(f"{precision}, the plain steps alone", row["plain_steps_s"], "s",
                     note=f"one measured, times the steps; {row['plain_steps_s'] / row['run_s']:.1f} times the run")


@staged
def cifar_run(sizes: Sizes) -> Iterator[Figure]:
    """Two rounds of ten clients and ten classes; runs that differ only in their seed, in turn and as one batch."""
    row = seeds.measure(sizes.model, "bf16", sizes.device, sizes.seeds, CIFAR_CLASSES, sizes.clients,
                        sizes.shots, 1)
    yield Figure(f"{sizes.seeds} runs, one after the other", row["in_turn_s"], "s")
    yield Figure(f"{sizes.seeds} runs as one batch", row["as_one_s"], "s",
                 note=f"{row['times_faster']:.2f} times as fast")


@staged
def image_features(sizes: Sizes) -> Iterator[Figure]:
    """JPEG files of 300 x 200 pixels, decoded, augmented and encoded."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for split, count in (("train", sizes.images), ("test", 10)):
            feature_cache.write_photographs(folder / "images" / split, count)
        imageset = load_dataset("folders", folder / "images")
        weights = feature_cache.write_rn50(folder / "rn50.safetensors") if sizes.model != "embedded_clip" else None
        for precision in ("fp32", "bf16"):
            clip = clips.load_clip(sizes.model, weights, device=sizes.device, precision=precision)
            rate, alone = feature_cache.busy(clip, imageset, folder / precision, sizes.views)
            yield Figure(precision, rate, "images/s", note=f"{sizes.views} views of every image")
            yield Figure(f"{precision}, the tower alone", alone, "images/s",
                         note=f"busy for {rate / alone:.0%} of the time")


class _TinyCosts(projections.Costs):
    """Takes every run to be the smallest there is."""

    def __init__(self, *settings):
        super().__init__(*settings)
        self.steps = 1

    def step(self, model: str, classes: int, cohort: int) -> float:
        return super().step("embedded_clip", 2, 1)

    def prompt(self, model: str, classes: int) -> float:
        return super().prompt("embedded_clip", 2)

    def image(self, model: str) -> float:
        return super().image("embedded_clip")


@staged
def projection(sizes: Sizes) -> Iterator[Figure]:
    """In bf16, with seeds as one batch; no run is made, parts of runs are measured and multiplied."""
    logging.disable(logging.WARNING)
    costs = (projections.Costs if sizes.on_gpu else _TinyCosts)(sizes.device, "bf16", 1)
    hours = 0.0
    for row in projections.each_grid(costs, SEEDS_PER_BATCH):
        hours += row["hours"]
        yield Figure(row["grid"], row["hours"], "h",
                     note=f"{row['runs']} runs, {row['cohort_steps']} steps of a cohort")
    yield Figure("all", hours, "h", note="" if sizes.on_gpu else "of the smallest CLIP: no estimate of anything")
