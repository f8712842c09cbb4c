"""A GPU that is none: tensors that say they are on it are kept and computed in main memory, under a GPU's rules.

Whatever would mix devices on a GPU fails here as it would there, and everything else gives the CPU's numbers. Streams,
graphs, memory and speed are not pretended. To import this changes PyTorch for the rest of the process.
"""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretended"
_setup_privateuseone_for_python_backend(NAME)
GPU, CPU = torch.device(NAME, 0), torch.device("cpu")
ATEN = torch.ops.aten
COPIES = {ATEN._to_copy.default, ATEN.copy_.default}
# A GPU takes indices from main memory, not the other way round.
INDEXED = {ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default, ATEN._index_put_impl_.default}
WAITS = {ATEN._local_scalar_dense.default, ATEN.nonzero.default, ATEN.masked_select.default, ATEN.equal.default}


class OnGPU(torch.Tensor):
    """A tensor on the pretended GPU; its numbers are `held` in main memory."""

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        return torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=GPU)

    def __init__(self, held: torch.Tensor):
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), settings=None):
        return compute(function, arguments, settings or {})

    def __repr__(self, *, tensor_contents=None) -> str:
        return f"OnGPU({self.held!r})"

    def tolist(self) -> Any:
        PretendedGPU.waits += 1
        return self.held.tolist()


class PretendedGPU(TorchDispatchMode):
    """Within it, tensors and modules can be put on the device "pretended".

    Attributes:
        waits: how often the host has waited for the GPU's results.
    """

    waits = 0

    def __enter__(self):
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) is made in main memory, then moved
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        return super().__enter__()

    def __exit__(self, *error):
        torch._C._set_only_lift_cpu_tensors(False)
        torch.__future__.set_overwrite_module_params_on_conversion(False)
        return super().__exit__(*error)

    def __torch_dispatch__(self, function, types, arguments=(), settings=None):
        return compute(function, arguments, settings or {})


def compute(function, arguments, settings) -> Any:
    """What an operator gives, on the device where a GPU would have it."""
    tensors = [own for own in tree_flatten((arguments, settings))[0] if isinstance(own, torch.Tensor)]
    asked = settings.get("device")
    _check(function, arguments, tensors)
    _count_wait(function, arguments, settings)
    if function is ATEN._fused_sdp_choice.default:
        return 0  # written out: which fused form is taken depends on the machine
    if function is ATEN.copy_.default:
        to_gpu = isinstance(arguments[0], OnGPU)
    else:
        to_gpu = any(isinstance(own, OnGPU) for own in tensors) if asked is None else asked.type == NAME
    on_host = settings if asked is None else settings | {"device": CPU}
    held = tree_map(lambda own: own.held if isinstance(own, OnGPU) else own, (arguments, on_host))
    result = function(*held[0], **held[1])
    result = tree_map(lambda own: OnGPU(own) if isinstance(own, torch.Tensor) and to_gpu else own, result)
    return return_and_correct_aliasing(function, arguments, settings, result) if tensors else result


def _check(function, arguments, tensors) -> None:
    if function in COPIES:
        return
    if function in INDEXED:
        indices = [own for own in arguments[1] if own is not None]
        if not isinstance(arguments[0], OnGPU) and any(isinstance(own, OnGPU) for own in indices):
            raise RuntimeError(f"{function}: indices should be either on cpu or on the same device as the tensor")
        tensors = [own for own in tensors if all(own is not index for index in indices)]
    # Numbers without a dimension go along from main memory.
    devices = {str(own.device) for own in tensors if own.dim() > 0 or own.device != CPU}
    if len(devices) > 1:
        raise RuntimeError(f"{function}: expected all tensors on the same device, not on {' and '.join(devices)}")


def _count_wait(function, arguments, settings) -> None:
    """Whether the host has to wait: for a number, for a choice by a mask, or for a copy from or to main memory."""
    if not arguments:
        return
    asked = settings.get("device")
    if function is ATEN.copy_.default:
        target, source, *blocking = arguments
        waits = isinstance(target, OnGPU) != isinstance(source, OnGPU) and not any(blocking)
    elif function is ATEN._to_copy.default:
        moved = asked is not None and (asked.type == NAME) != isinstance(arguments[0], OnGPU)
        waits = moved and not settings.get("non_blocking")
    else:
        by = arguments[1] if function in INDEXED else ()
        masked = any(own is not None and own.dtype == torch.bool for own in by)
        waits = isinstance(arguments[0], OnGPU) and (function in WAITS or masked)
    PretendedGPU.waits += waits
