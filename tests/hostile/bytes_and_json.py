"""Ways to spoil a file: its bytes, whatever they mean, and the values of a JSON document."""

import copy
import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CODE = "__import__('os').system('{}')"  # to be filled with a shell command
VALUES = [None, True, -1, 1.5, 10**400, float("nan"), float("-inf"), "", "x", [], {}, [[]],
          {"$ref": "#"}, "<img src=x onerror=alert(1)>",
          "\x1b[2J\x1b]0;owned\x07", "\u202egpj.exe", "a\x00b", "../../../secret.txt"]  # fmt: skip


def spoiled(content: bytes, flips: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """A file cut off, emptied, filled up, replaced, and with single bits flipped: (what was done, content)."""
    for share in (0.01, 0.3, 0.6, 0.99):
        yield f"cut off at {share:.0%}", content[: int(share * len(content))]
    yield "empty", b""
    yield "zeros", bytes(len(content))
    yield "random bytes", random.Random(seed).randbytes(len(content))
    yield "twice in a row", content * 2
    yield "a tail of zeros", content + bytes(4096)
    yield "a byte order mark first", b"\xef\xbb\xbf" + content
    chance = random.Random(seed)
    for number in range(flips):
        at, bit = chance.randrange(len(content)), chance.randrange(8)
        changed = bytearray(content)
        changed[at] ^= 1 << bit
        yield f"bit flip {number + 1}", bytes(changed)


def other_documents() -> Iterator[tuple[str, bytes]]:
    """JSON that is something else, or hardly JSON."""
    yield "a list", b"[]"
    yield "a number", b"17"
    yield "null", b"null"
    yield "an empty object", b"{}"
    yield "100,000 brackets deep", b"[" * 100_000 + b"]" * 100_000
    yield "100,000 objects deep", b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    yield "a number of 5,000 digits", b'{"accuracy": ' + b"9" * 5000 + b"}"
    yield "UTF-16", '{"accuracy": 1}'.encode("utf-16")
    yield "Latin-1", '{"name": "Gr\u00f6\u00dfe"}'.encode("latin-1")
    yield "lone surrogates", b'{"key": "\\ud800"}'
    yield "Python instead of JSON", b"__import__('os').getcwd()"
    yield "JSON with a comment", b'{"a": 1} // comment'


def paths(document: Any, at: tuple = ()) -> Iterator[tuple]:
    """Where values stand in a document; of lists the first and the last."""
    if at:
        yield at
    if isinstance(document, dict):
        for name, value in document.items():
            yield from paths(value, (*at, name))
    elif isinstance(document, list):
        for index in sorted({0, len(document) - 1} & set(range(len(document)))):
            yield from paths(document[index], (*at, index))


def changed(document: Any, at: tuple, value: Any) -> Any:
    """The document with another value at one place."""
    whole = found = copy.deepcopy(document)
    for step in at[:-1]:
        found = found[step]
    found[at[-1]] = value
    return whole


def without(document: Any, at: tuple) -> Any:
    whole = found = copy.deepcopy(document)
    for step in at[:-1]:
        found = found[step]
    del found[at[-1]]
    return whole


def spoiled_values(document: Any, count: int, seed: int = 0, among: tuple = ()) -> Iterator[tuple[str, Any]]:
    """A document with one value missing or replaced, so many: every place at least once as far as they suffice."""
    chance = random.Random(seed)
    places = [at for at in paths(document) if not among or at[0] in among]
    chance.shuffle(places)
    for number in range(count):
        at = places[number % len(places)]
        where = ".".join(map(str, at))
        if chance.random() < 0.15:
            yield f"no {where}", without(document, at)
        else:
            value = chance.choice([value for value in VALUES if not _same(value, document, at)])
            yield f"{where} is {_shown(value)}", changed(document, at, value)


def _same(value: Any, document: Any, at: tuple) -> bool:
    for step in at:
        document = document[step]
    return type(value) is type(document) and value == document


def _shown(value: Any) -> str:
    text = "a number of 401 digits" if value == 10**400 else ascii(value)
    return text if len(text) < 40 else text[:37] + "..."


def as_json(document: Any) -> bytes:
    return json.dumps(document).encode()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


# --- safetensors, whose files are a length, a JSON header, and the tensors' bytes


def opened(content: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def closed(header: Any, data: bytes, length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data
