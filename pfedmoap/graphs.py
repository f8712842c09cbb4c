"""Steps that a GPU repeats by itself, as a CUDA graph: small steps take longer to launch than to compute."""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Step = Callable[[], None]
Capture = Callable[[Step], Step]

WARM_UP = 2  # steps before a capture, which initialise what must not be initialised during one
PAYS = 12  # a capture and its check cost a few steps
TOLERANCE = 1e-4

log = logging.getLogger(__name__)


def repeat(step: Step, times: int, state: Sequence[Tensor], capture: Capture | None) -> None:
    """Takes a step so many times.

    A captured step is believed only after it has once done what the step itself does. A step that cannot be captured,
    since it waits for its own results or lacks memory, is launched every time; nothing is said about it.

    Args:
        step: reads and writes tensors that stay where they are, and knows from them which step it is.
        state: all tensors that it changes.
        capture: makes the step one that is replayed (`capture_for`); None: it is launched every time.
    """
    if capture is None or times < PAYS:
        return _take(step, times)
    _take(step, WARM_UP)
    try:
        replay = capture(step)
    except RuntimeError as error:
        log.debug("a step that cannot be captured is launched every time: %s", error)
        return _take(step, times - WARM_UP)
    before = [tensor.clone() for tensor in state]
    step()
    after = [tensor.clone() for tensor in state]
    _restore(state, before)
    replay()
    if not all(torch.allclose(own, other, TOLERANCE, TOLERANCE) for own, other in zip(state, after, strict=True)):
        log.debug("a captured step that does something else is launched every time")
        replay = step
        _restore(state, after)
    _take(replay, times - WARM_UP - 1)


def capture_for(device: torch.device) -> Capture | None:
    """How steps are captured on a device; None where they are not."""
    return _captured if device.type == "cuda" else None


def _captured(step: Step) -> Step:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):  # records the step's kernels without running them
        step()
    return graph.replay


def _take(step: Step, times: int) -> None:
    for _ in range(times):
        step()


def _restore(state: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(state, values, strict=True):
        tensor.copy_(value)
