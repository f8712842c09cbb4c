"""Tensors and plain data in one safetensors file, with a checksum over both: nothing is executed, damage is noticed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pfedmoap.server import Tensors
from pfedmoap.system import write_atomically

CHECKSUM = "sha256"


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], key: str, about: Mapping[str, Any], mode: int = 0o666
) -> None:
    """Writes the file, whole or not at all.

    Args:
        key: the name in the file's metadata under which `about` stands, as JSON.
        mode: who may read and write it, before the umask.

    Raises:
        UserError: it cannot be written.
    """
    # Copies, since a pool's entries are its clients' own prompts, and a file may not hold a tensor twice.
    copies = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(about)
    write_atomically(path, save(copies, {key: text, CHECKSUM: _checksum(copies, text)}), mode)


def read_tensors(path: Path, key: str) -> tuple[Tensors, Any, bool]:
    """What `write_tensors` wrote.

    Returns:
        The tensors, what the file says of them, and whether it has a checksum: files of earlier versions have none.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is damaged or another kind of file, or has numbers that are not finite.
    """
    if not path.is_file():
        if path.exists():
            raise ValueError("it is no file")  # a pipe would never end
        raise FileNotFoundError(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, RuntimeError, TypeError, AttributeError, OSError) as error:
        raise ValueError(str(error)) from error
    if key not in metadata:
        raise ValueError(f"it says nothing of {key}")
    if CHECKSUM in metadata and metadata[CHECKSUM] != _checksum(tensors, metadata[key]):
        raise ValueError("its checksum is wrong")
    unsound = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if unsound:
        raise ValueError(f"{unsound[0]} has numbers that are not finite")
    try:
        return tensors, json.loads(metadata[key]), CHECKSUM in metadata
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
