"""What a stage yields, and at which sizes: those of the paper on a GPU, tiny ones on the pretended GPU."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch

ABSENT = "not on this device"


class Figure(NamedTuple):
    """A measured value, or why there is none.

    Attributes:
        bound: what it may be at most.
        fine: whether it is; None: nothing is asked of it.
    """

    what: str
    value: float | int | str | None = None
    unit: str = ""
    bound: float | None = None
    fine: bool | None = None
    note: str = ""


def within(what: str, value: float, bound: float, unit: str = "", note: str = "") -> Figure:
    """A value that must be at most so large; one that is no number is not."""
    return Figure(what, float(value), unit, bound, bool(value <= bound), note)


def absent(what: str, note: str = ABSENT) -> Figure:
    return Figure(what, note=note)


@dataclass(frozen=True)
class Sizes:
    """At which sizes the stages run on a device, by default the paper's.

    Attributes:
        cohorts: clients that train together: one, a round's, a round's of eight seeds.
        steps: of a local update.
        cases: of `cases.CASES`; None: all.
        tests: of `tests/test_device.py`, as pytest's -k has it.
        budget: of a whole run.
        clients: of both kinds of runs.
        shots, seeds: of the runs of CIFAR-10's shape.
        images, views: of the image features.
    """

    device: str
    model: str = "RN50-quickgelu"
    classes: int = 102
    cohorts: tuple[int, ...] = (1, 10, 80)
    steps: int = 30
    square: int = 8192
    repeats: int = 5
    cases: tuple[str, ...] | None = None
    tests: str = ""
    budget: tuple[int, int, int] = (10, 5, 16)  # rounds, epochs, shots
    clients: int = 10
    shots: int = 500
    seeds: int = 8
    images: int = 960
    views: int = 8

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("cuda")


def tiny(device: str) -> Sizes:
    return Sizes(device, "embedded_clip", 10, (1, 2), 2, 16, 1, ("seeds",), "gpu", (1, 1, 4), 2, 1, 2,
                 10, 1)


Sized = Callable[[Sizes], Iterator[Figure]]


def staged(stage: Sized) -> Callable[[str, bool], Iterator[Figure]]:
    """Makes a function of the sizes one of the device and of whether it is pretended."""

    @functools.wraps(stage)
    def figures(device: str, pretend: bool) -> Iterator[Figure]:
        if not pretend:
            if ":" in device:
                torch.cuda.set_device(device)  # whose clock and memory are looked at
            yield from stage(Sizes(device))
            return
        with pretended() as name:
            yield from stage(tiny(name))

    return figures


@functools.cache
def _weights_in_main_memory() -> None:
    """Has weights read before anything is pretended: safetensors knows no such tensors."""
    from pfedmoap import clip

    clip.read_state_dict = functools.cache(clip.read_state_dict)
    clip.load_clip()


class pretended:
    """The pretended GPU for the rest of the process, on one thread and with small batches of images."""

    def __enter__(self) -> str:
        import feature_cache
        from gpu import NAME, PretendedGPU

        from pfedmoap.data import features

        torch.set_num_threads(1)
        _weights_in_main_memory()
        features.BATCH = features.GPU_BATCH = feature_cache.GPU_BATCH = 8
        self.mode = PretendedGPU()
        self.mode.__enter__()
        return NAME

    def __exit__(self, *error) -> None:
        self.mode.__exit__(*error)
