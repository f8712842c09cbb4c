"""Tensors as bytes, in NumPy's file format, and back without believing anything that a sender wrote."""

import io
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pfedmoap.errors import PfedmoapError
from pfedmoap.server import Tensors


class Refused(PfedmoapError):
    """Something that arrived is not what was asked for; the message says in what."""


def pack(tensors: Tensors) -> dict[str, bytes]:
    """Each tensor as the content of an .npy file."""
    return {name: _head(tensor) + tensor.contiguous().numpy().tobytes() for name, tensor in tensors.items()}


def unpack(arrays: Mapping[str, bytes], templates: Tensors) -> Tensors:
    """The inverse of `pack` for tensors of known names, shapes and dtypes.

    No header is parsed: it has to be, byte by byte, the one that such a tensor has. So nothing is allocated by a size
    that a sender claims, and nothing can be a pickle.

    Args:
        templates: tensors like those that are expected; their values do not matter.

    Raises:
        Refused: other names, shapes, dtypes or sizes, or numbers that are not finite.
    """
    if set(arrays) != set(templates):
        raise Refused(f"it has {_listed(arrays)} where {_listed(templates)} was expected")
    return {name: _tensor(name, arrays[name], template) for name, template in templates.items()}


def _tensor(name: str, data: bytes, template: Tensor) -> Tensor:
    head, array = _head(template), template.numpy()
    if len(data) != len(head) + array.nbytes or data[: len(head)] != head:
        raise Refused(f"{name} is no {array.dtype} array of shape {array.shape} ({len(data):,} bytes, expected "
                      f"{len(head) + array.nbytes:,})")
    received = np.frombuffer(data, array.dtype, offset=len(head)).reshape(array.shape)
    if array.dtype.kind == "f" and not np.isfinite(received).all():
        raise Refused(f"{name} has numbers that are not finite")
    return torch.from_numpy(received.copy())


def _head(tensor: Tensor) -> bytes:
    """What an .npy file of such a tensor starts with."""
    stream, array = io.BytesIO(), tensor.contiguous().numpy()
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
    return stream.getvalue()


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(repr(str(name)[:40]) for name in names)[:5]) or "nothing"
