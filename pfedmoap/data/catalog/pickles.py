"""Pickles from the internet, read without executing what is in them."""

import pickle
from pathlib import Path
from typing import Any

from pfedmoap.data.layout import readable

# What a pickled array of numbers or strings is made of; everything else in a pickle is plain data without calls.
ARRAY_PARTS = frozenset(
    (
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.numeric", "_frombuffer"),
        ("_codecs", "encode"),
    )
)


class ArrayUnpickler(pickle.Unpickler):
    """Admits numpy arrays and plain data (lists, dicts, strings, numbers), and refuses to look up anything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ARRAY_PARTS:
            raise pickle.UnpicklingError(f"it would call {module}.{name}, which is not part of a numpy array")
        return super().find_class(module.replace("numpy.core.", "numpy._core."), name)


def read_pickle(path: Path) -> Any:
    """Reads a pickle of numpy arrays and plain data, old Python 2 ones too.

    Raises:
        UserError: it is broken, or has anything else in it, which is not executed.
    """
    with readable(path), open(path, "rb") as file:
        return ArrayUnpickler(file, encoding="latin1").load()
