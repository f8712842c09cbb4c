"""What a client of a federation may send: nothing of it is believed before it has been judged."""

import io
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import base as bases
import numpy as np
import torch
from bench import Hostile
from bytes_and_json import spoiled
from stored import pickles

GLOBAL = {"prompt": torch.linspace(-0.05, 0.05, 4 * 32).reshape(4, 32)}
KEY = "0123456789abcdef"


def uploads(base: bases.Base) -> Iterator[Hostile]:
    """Replies to a server that awaits an upload of client 0 in round 3."""
    good = _npy(GLOBAL["prompt"].numpy() + 0.01)
    about = {"experiment": KEY, "round": 3, "client": 0, "loss": 1.5}

    def act(about: Any, arrays: Any, folder: Path) -> str:
        from pfedmoap.flower.ingest import Incoming, Ingest

        if callable(arrays):
            arrays = {"prompt": arrays(folder)}
        ingest = Ingest(KEY)
        ingest.open(3, "upload", [0, 1])
        update = ingest.upload(Incoming(0, about, arrays), GLOBAL)
        return "let in" if torch.isfinite(update.upload["prompt"]).all() else "not finite"

    def hostile(name: str, arrays: Any = None, told: Any = about, harmless=None) -> Hostile:
        arrays = {"prompt": good} if arrays is None else arrays
        return Hostile("upload", name, lambda folder: None, partial(act, told, arrays), harmless)

    assert act(about, {"prompt": good}, Path()) == "let in"
    for name, content in spoiled(good, 30):
        yield hostile(name, {"prompt": content}, harmless=_within_the_norm if name.startswith("bit flip") else None)
    shapes = {"of another shape": np.zeros((5, 32), np.float32), "transposed": np.zeros((32, 4), np.float32),
              "of one number": np.float32(1), "of doubles": np.zeros((4, 32)),
              "of whole numbers": np.zeros((4, 32), int),
              "of complex numbers": np.zeros((4, 32), np.complex64), "big-endian": np.zeros((4, 32), ">f4"),
              "in Fortran's order": np.asfortranarray(np.ones((4, 32), np.float32)),
              "empty": np.zeros((0, 32), np.float32),
              "of texts": np.full((4, 32), "x"), "of not a number": np.full((4, 32), np.nan, np.float32),
              "of infinity": np.full((4, 32), np.inf, np.float32), "with one not a number": _one(np.nan),
              "with one infinity": _one(-np.inf), "1,000 times as large": np.full((4, 32), 50, np.float32),
              "with one huge number": _one(1e30)}  # fmt: skip
    for name, array in shapes.items():
        yield hostile(f"a tensor {name}", {"prompt": _npy(array)})
    objects = io.BytesIO()
    np.save(objects, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    yield hostile("a tensor of Python objects", {"prompt": objects.getvalue()})
    for name, content in pickles():
        yield hostile(name, content)
    for name, header in (("a header of code", "__import__('os').system('x')"), ("a shape of a petabyte",
                         "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 1024), }"),
                         ("a header of 60,000 brackets", "(" * 60_000)):  # fmt: skip
        yield hostile(name, {"prompt": _with_header(header)})
    names = {
        "no tensors": {},
        "another's name": {"gate.query": good},
        "a tensor more": {"prompt": good, "gate": good},
        "a path as name": {"../prompt": good},
        "steering characters as name": {"\x1b[2J": good},
        "a name of 1 MB": {"a" * 10**6: good},
        "1,000 tensors": {str(n): good for n in range(1000)},
        "a number as name": {1: good},
    }
    for name, arrays in names.items():
        yield hostile(name, arrays)
    lies: list[tuple[str, Any]] = [("client", 1), ("client", "0"), ("client", True), ("client", None),
                                   ("round", 2), ("round", 4),
                                   ("round", 3.0), ("round", "3"), ("round", [3]), ("experiment", KEY[::-1]),
                                   ("experiment", None), ("experiment", "\x1b[2J"), ("experiment", "a" * 10**6),
                                   ("loss", float("nan")), ("loss", float("inf")), ("loss", "1"), ("loss", None),
                                   ("loss", True),
                                   ("loss", [1.0]), ("loss", 10**400)]  # fmt: skip
    for name, value in lies:
        yield hostile(f"{name} {value!a}"[:60], told=about | {name: value})
    for name in about:
        yield hostile(f"no {name}", told={key: value for key, value in about.items() if key != name})
    yield from _tests(about)


def _tests(about: dict[str, Any]) -> Iterator[Hostile]:
    """Replies to a server that awaits how client 0 was tested."""

    def act(told: dict[str, Any], folder: Path) -> str:
        from pfedmoap.flower.ingest import Incoming, Ingest

        ingest = Ingest(KEY)
        ingest.open(3, "test", [0, 1])
        return str(ingest.test(Incoming(0, told, {})))

    said = {"experiment": KEY, "round": 3, "client": 0, "accuracy": 0.5}
    for name, value in (("accuracy", 1.01), ("accuracy", -0.1), ("accuracy", float("nan")), ("accuracy", "1"),
                        ("accuracy", None),
                        ("accuracy", True), ("accuracy", 10**400), ("<script>", 1.0), ("\x1b[2J", 1.0),
                        ("a" * 65, 1.0),
                        ("entropy", float("inf")), ("entropy", "x"), ("entropy", {}),
                        ("client", 1), ("round", 2)):  # fmt: skip
        yield Hostile(
            "upload", f"a test with {name!a} {value!a}"[:60], lambda folder: None, partial(act, said | {name: value})
        )


def _within_the_norm(folder: Path, printed: str) -> str | None:
    return None if printed.strip() == "let in" else "numbers that are not finite"


def _one(value: float) -> np.ndarray:
    array = np.zeros((4, 32), np.float32)
    array[2, 7] = value
    return array


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _with_header(header: str) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text + bytes(512)
