"""Steps that a GPU repeats by itself, as a CUDA graph: small steps take longer to launch than to compute."""

import logging
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

Step = Callable[[], None]
Capture = Callable[[Step], Step]

WARM_UP = 2  # steps before a capture, which initialise what must not be initialised during one
PAYS = 12  # a capture and its check cost a few steps
TOLERANCE = 1e-2  # of the way that a step goes, between the step itself and its replay
ROUNDING = 1e-6

log = logging.getLogger(__name__)
_failed: set[Capture] = set()  # not tried again in this process: each failure costs memory and time


def repeat(step: Step, times: int, state: Sequence[Tensor], capture: Capture | None) -> None:
    """Takes a step so many times.

    A captured step is used only if it has done once what the step itself does. A step that cannot be captured, for lack
    of memory, say, is launched every time, without a message.

    Args:
        step: reads and writes tensors that stay where they are, and knows from them which step it is.
        state: all tensors that it changes.
        capture: makes the step one that is replayed (`capture_for`); None: it is launched every time.
    """
    replay, done = None, 0
    if capture is not None and capture not in _failed and times >= PAYS:
        _take(step, WARM_UP)
        replay, done = _checked(step, state, capture), WARM_UP
    _take(replay or step, times - done)


def _checked(step: Step, state: Sequence[Tensor], capture: Capture) -> Step | None:
    """The captured step if it does what the step does; the state is as it was before."""
    before = [tensor.clone() for tensor in state]
    replay = None
    try:
        replay = capture(step)
        step()
        after = [tensor.clone() for tensor in state]
        _restore(state, before)
        replay()
        if not all(map(_same_way, before, after, state)):
            replay = None
            if all(bool(tensor.isfinite().all()) for tensor in after):  # else it says nothing about other updates
                _failed.add(capture)
            log.debug("a captured step does something else: steps are launched one by one")
    except RuntimeError as error:
        replay = None
        if not _for_want_of_memory(error):  # which a smaller cohort may not meet
            _failed.add(capture)
        log.debug("steps are launched one by one: %s", error)
    _restore(state, before)
    return replay


def _for_want_of_memory(error: BaseException | None) -> bool:
    """Also if the capture that it broke off complains in turn."""
    return error is not None and (isinstance(error, torch.OutOfMemoryError) or _for_want_of_memory(error.__context__))


def _same_way(before: Tensor, after: Tensor, replayed: Tensor) -> bool:
    """Whether both steps went the same way, however short it is beside the tensor."""
    way, apart = (after - before).double().norm(), (replayed - after).double().norm()
    return bool(apart <= TOLERANCE * way + ROUNDING * after.double().norm())


@cache
def capture_for(device: torch.device) -> Capture | None:
    """How steps are captured on a device; None where they are not."""
    if device.type != "cuda":
        return None

    def capture(step: Step) -> Step:
        graph = torch.cuda.CUDAGraph()
        # The inner stream is the current one again even if the capture fails on its way out.
        with torch.cuda.device(device), torch.cuda.stream(torch.cuda.current_stream(device)):
            with torch.cuda.graph(graph):  # records the step's kernels without running them
                step()

        def replay() -> None:
            with torch.cuda.device(device):
                graph.replay()

        return replay

    return capture


def _take(step: Step, times: int) -> None:
    for _ in range(times):
        step()


def _restore(state: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(state, values, strict=True):
        tensor.copy_(value)
