"""The processor's arithmetic: which instructions it has, and whether it is any good at bf16.

Where a processor has no instructions for bf16, PyTorch computes in it all the same, without a word, and up to a hundred
times slower than in fp32.
"""

import time
from functools import cache

import torch

from pfedmoap.clip import DTYPES
from pfedmoap.errors import UserError

SLOW = 3  # times as long as in fp32, which no user means
SHAPE = 480, 512, 2048  # of the matrix product that is timed, as text towers have it
INSTRUCTIONS = {"AMX": "amx_bf16", "AVX512-BF16": "avx512_bf16", "AVX512": "avx512_f", "AVX2": "avx2"}  # the best first


def instruction_set() -> str:
    """The best instructions for matrix products: AMX, AVX512-BF16, AVX512 or AVX2, or what PyTorch calls others."""
    has = getattr(torch.cpu, "get_capabilities", dict)()
    return next((name for name, flag in INSTRUCTIONS.items() if has.get(flag)), torch.backends.cpu.get_cpu_capability())


@cache
def product_seconds(precision: str) -> float:
    """Processor seconds of one matrix product, the better of two; measured once per process."""
    rows, inner, columns = SHAPE
    a, b = (torch.ones(shape, dtype=DTYPES[precision]) for shape in ((rows, inner), (inner, columns)))
    seconds = []
    for _ in range(2):  # the first also prepares the second
        started = time.process_time()
        a @ b
        seconds.append(time.process_time() - started)
    return min(seconds)


def too_slow(precision: str, device: str) -> str | None:
    """Why a precision is out of the question on a device, with what was measured; None if it is not."""
    if precision == "fp32" or torch.device(device).type != "cpu":
        return None
    ours, fp32 = product_seconds(precision), product_seconds("fp32")
    if ours <= SLOW * fp32:
        return None
    product = f"a matrix product of {' x '.join(map(str, SHAPE))}"
    return (f"precision {precision} is {ours / fp32:.0f} times slower than fp32 on this processor "
            f"({instruction_set()}; {product} takes {1000 * ours:,.0f} ms, in fp32 {1000 * fp32:,.0f} ms)")


def refuse_too_slow(precision: str, device: str) -> None:
    """Raises a UserError if a precision is out of the question on a device."""
    if why := too_slow(precision, device):
        raise UserError(f"{why}: use --precision fp32, or a GPU (--device cuda).")
