"""Stages that compare a GPU with the CPU in fp32."""

import importlib.util
import os
import platform
import queue
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from unittest.mock import patch

import torch
from cases import CASES, apart, finished
from measuring import machine
from stages import Figure, Sizes, absent, staged, within
from training_step import relative_difference
from workload import BATCH, Step, Update, make_context, normalised, random_clip

from pfedmoap import gating, graphs
from pfedmoap.experiments import Place
from pfedmoap.system import cores, one_thread

LOSS = 1e-3  # relative; what the half precisions may differ by follows
HALF = {"bf16": 0.05, "fp16": 0.01}
PHOTOGRAPHS = "nature"  # the digits are scikit-learn's, which a bare machine need not have
NEEDED = {"logistic_regression": ("sklearn",), "privacy": ("dp_accounting", "scipy")}
TESTS = Path(__file__).parents[1]


@staged
def here(sizes: Sizes) -> Iterator[Figure]:
    """The card, its driver, and what computes beside it."""
    if sizes.on_gpu:
        if not torch.cuda.is_available():
            yield Figure("GPU", "none", fine=False, note=f"PyTorch {torch.__version__} sees none: install a driver and "
                                                         f"a PyTorch with CUDA, or run with --pretend")
            return
        card = torch.cuda.get_device_properties(sizes.device)
        free, total = torch.cuda.mem_get_info(sizes.device)
        yield Figure("GPU", card.name, fine=True)
        yield Figure("compute capability", f"{card.major}.{card.minor}")
        yield Figure("multiprocessors", card.multi_processor_count)
        yield Figure("memory", total / 2**30, "GiB", note=f"{free / 2**30:.1f} GiB free")
        yield Figure("driver", _driver() or None, note="" if _driver() else "nvidia-smi does not say")
        yield Figure("CUDA of PyTorch", torch.version.cuda)
    else:
        yield Figure("GPU", sizes.device, note="pretended: figures of speed are those of the CPU")
        yield absent("driver")
    for name, value in machine().items():
        yield Figure(name, value)
    yield Figure("python", platform.python_version())


def _driver() -> str:
    try:
        asked = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
                               capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip().partition("\n")[0]


@staged
def parts(sizes: Sizes) -> Iterator[Figure]:
    """Same weights, prompts, gates and images on both sides; differences are relative, in the Euclidean norm."""
    if sizes.on_gpu:
        torch.set_num_threads(cores.count())
    clips, own = [random_clip(sizes.model, device=device) for device in ("cpu", sizes.device)], {}
    for place, clip in zip(("cpu", "gpu"), clips, strict=True):
        context = make_context(clip, sizes.classes)
        with torch.no_grad():
            own[place] = {"prompts": context.text.encoder(context.initial_prompt.to(clip.device)[None]).cpu(),
                          "gate": _gated(clip.device).cpu()}
    for name in ("prompts", "gate"):
        yield within(name, relative_difference(own["gpu"], own["cpu"], name), LOSS)
    few = min(sizes.classes, 20)  # as the CPU may be a slow one
    (losses, gradients), (expected, wanted) = (_in_main_memory(Step(clip, sizes.classes, 2)()) for clip in clips[::-1])
    yield within("step, loss", _farthest(losses, expected), LOSS)
    for name in ("prompt", "gate"):
        yield within(f"step, gradient of the {name}", relative_difference(gradients, wanted, name), LOSS)
    alone, _ = _in_main_memory(Step(clips[1], sizes.classes)())
    yield within("a client alone and in a cohort, loss", _farthest(losses[:1], alone), LOSS)
    ours, expected = (Update(clip, few, 2, sizes.steps)().cpu() for clip in clips[::-1])
    yield within(f"local update of {sizes.steps} steps, {few} classes, loss", _farthest(ours, expected), LOSS)
    if graphs.capture_for(clips[1].device) is None:
        yield absent("CUDA graphs")
        return
    yield from replayed(Update(clips[1], sizes.classes, sizes.cohorts[1], sizes.steps), sizes)


def _gated(device: torch.device) -> torch.Tensor:
    """The gate's match of images and classes, with random experts: (1, B, C)."""
    torch.manual_seed(0)
    gate = {name: tensor[None].to(device) for name, tensor in gating.initial_gate(128, 1, 0).items()}
    images, experts = normalised(1, BATCH, 128).to(device), normalised(1, 10, 20, 128).to(device)
    present = torch.ones(1, 10, dtype=torch.bool, device=device)
    return gating.dot_product(gate, images, experts, present, heads=8, scale=10)[0]


def replayed(update: Update, sizes: Sizes) -> Iterator[Figure]:
    """A local update with and without CUDA graphs, and how many of its steps were launched one by one."""
    count, capture_for = Counter(), graphs.capture_for

    def counted(step):
        replay = capture_for(torch.device(sizes.device))(step)
        return lambda: [replay(), count.update(["replays"])]

    with patch.object(graphs, "capture_for", lambda device: counted):
        ours = update().cpu()
    with patch.object(graphs, "capture_for", lambda device: None):
        launched = update().cpu()
    yield within("CUDA graphs, loss against the steps launched one by one", _farthest(ours, launched), LOSS)
    yield within("steps launched one by one in spite of CUDA graphs", sizes.steps + 1 - count["replays"],
                 graphs.WARM_UP + 1, note=f"of {sizes.steps}, one of them to check the first replay")


@staged
def methods(sizes: Sizes) -> Iterator[Figure]:
    """On photographs: the largest difference of a client's loss in any round, of bf16 too from fp32 on the CPU."""
    with tempfile.TemporaryDirectory() as folder, one_thread():
        cpu, gpu = Place(cache=f"{folder}/cpu"), Place(cache=f"{folder}/gpu", device=sizes.device)
        for name in sizes.cases or CASES:
            if missing := [module for module in NEEDED.get(name, ()) if importlib.util.find_spec(module) is None]:
                yield absent(name, f"{' and '.join(missing)} cannot be imported")
                continue
            runs = [replace(run, dataset=PHOTOGRAPHS) for run in CASES[name][: sizes.seeds]]
            try:
                expected = finished([replace(run, precision="fp32") for run in runs], cpu)
                loss, accuracy = apart(finished(runs, gpu), expected)
            except Exception as error:
                yield Figure(name, fine=False, note=f"{type(error).__name__}: {str(error)[:300]}")
                continue
            yield within(name, loss, HALF.get(name, LOSS), note=f"accuracy moves by {100 * accuracy:.2f} points")


@staged
def device_tests(sizes: Sizes) -> Iterator[Figure]:
    """Every test of it, among them bf16's accuracy and the replays of CUDA graphs."""
    import pytest

    class Reports:
        @staticmethod
        def pytest_runtest_logreport(report):
            if report.when == "call" or report.outcome != "passed":
                ended.put(report)

    os.environ.pop("PYTEST_XDIST_WORKER", None)
    ended = queue.SimpleQueue()
    asked = [str(TESTS / "test_device.py"), "-p", "no:cacheprovider", "-k", sizes.tests, f"--rootdir={TESTS.parent}"]
    Thread(target=lambda: ended.put(pytest.main(asked, plugins=[Reports])), daemon=True).start()
    none = True
    while not isinstance(report := ended.get(), int):  # pytest's exit code
        none = False
        name, last = report.nodeid.partition("::")[2], str(report.longrepr).strip().splitlines()[-1:]
        yield absent(name) if report.skipped else Figure(
            name, report.outcome, fine=report.passed, note="" if report.passed else "".join(last)[:300])
    if none:
        yield Figure("tests/test_device.py", "no test ran", fine=False, note="the log says why")


def _in_main_memory(result: tuple[torch.Tensor, dict]) -> tuple[torch.Tensor, dict]:
    losses, gradients = result
    return losses.cpu(), {name: tensor.cpu() for name, tensor in gradients.items()}


def _farthest(ours: torch.Tensor, expected: torch.Tensor) -> float:
    return float((ours / expected - 1).abs().max())
