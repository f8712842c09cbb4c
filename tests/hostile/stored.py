"""What a run leaves and reads again: its record, its checkpoint, the image features, a personal model."""

import json
import pickle
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import base as bases
import numpy as np
import torch
from bench import CANARY, Hostile, command
from bytes_and_json import (
    as_json,
    changed,
    closed,
    opened,
    other_documents,
    paths,
    spoiled,
    spoiled_values,
    without,
    write,
)
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

# Of a record, what says how a run went and not what came of it: any sound value there is as good as another.
TOLD = ("seconds", "seeds_per_batch", "machine", "versions")


def records(base: bases.Base) -> Iterator[Hostile]:
    """A spoiled record is computed again or refused."""
    good = (base.folder / "records" / base.record_file).read_bytes()
    made = [*spoiled(good, 12), *other_documents()]
    made += [(name, as_json(document)) for name, document in spoiled_values(base.record, 90)]
    made += [(name, as_json(document)) for name, document in _lies(base.record)]
    for name, content in made:
        yield Hostile("record", name, partial(_put, base.record_file, content), command(*base.run()), base.wrong)
    yield Hostile(
        "record",
        "a folder of its name",
        lambda folder: (folder / base.record_file).mkdir(),
        command(*base.run()),
        base.wrong,
    )
    yield Hostile(
        "record",
        "a link to another's file",
        lambda folder: (folder / base.record_file).symlink_to("../secret.txt"),
        command(*base.run()),
        base.wrong,
    )
    yield Hostile(
        "record",
        "a link to itself",
        lambda folder: (folder / base.record_file).symlink_to(base.record_file),
        command(*base.run()),
        base.wrong,
    )


def _put(name: str, content: bytes, folder: Path) -> None:
    write(folder / name, content)


def _lies(record: dict) -> Iterator[tuple[str, dict]]:
    """Records that are well formed and cannot be true."""
    yield "another run's record", record | {"key": "0" * 16}
    yield "an accuracy that its rounds do not have", record | {"accuracy": 0.99}
    yield "an accuracy of 17", changed(record, ("rounds", -1, "accuracies"), [17.0] * 2)
    yield "a round less", record | {"rounds": record["rounds"][:-1]}
    yield "a round twice", record | {"rounds": [record["rounds"][0]] * 2}
    yield "rounds in reverse", record | {"rounds": record["rounds"][::-1]}
    yield "a client less", changed(record, ("rounds", -1, "accuracies"), record["rounds"][-1]["accuracies"][:1])
    yield "a client more", changed(record, ("rounds", -1, "accuracies"), [*record["rounds"][-1]["accuracies"], 1.0])
    yield "another seed's experiment", changed(record, ("experiment", "seed"), 2)
    yield "another method's experiment", changed(record, ("experiment", "method"), {"name": "promptfl"})
    yield "a method that would be code", changed(record, ("experiment", "method", "name"), "os.system")
    for at in paths(record):
        if at[-1] == "accuracies" and at[1] == 0:
            yield "accuracies as text", changed(record, at, ["0.5", "0.5"])
            yield "accuracies of which one is true", changed(record, at, [True, 0.5])


def checkpoints(base: bases.Base) -> Iterator[Hostile]:
    """A spoiled checkpoint is refused, or the run that goes on from it ends as it would have."""
    made = [*spoiled(base.checkpoint, 24), *_tensor_files(base.checkpoint, "state")]
    for name, content in made:
        yield Hostile(
            "checkpoint", name, partial(_put, base.checkpoint_file, content), command(*base.run()), base.wrong
        )
    for name, content in pickles():
        yield Hostile(
            "checkpoint",
            name,
            lambda folder, content=content: write(folder / base.checkpoint_file, content(folder)),
            command(*base.run()),
            base.wrong,
        )


def _tensor_files(content: bytes, key: str, states: int = 30) -> Iterator[tuple[str, bytes]]:
    """A safetensors file with another header, other tensors, or another description under `key`."""
    header, data = opened(content)
    for length in (0, 2**40, 2**64 - 1):
        yield f"a header of {length} bytes", closed(header, data, length)
    yield "a header that is no JSON", closed(header, data)[:8] + closed(header, data)[8:].replace(b"{", b"(", 1)
    yield "a header that is a list", closed([], data)
    yield "a header of 100,000 brackets", (100_000).to_bytes(8, "little") + b"[" * 100_000 + data
    yield "no description", closed({name: value for name, value in header.items() if name != "__metadata__"}, data)
    first = next(name for name in header if name != "__metadata__")
    for name, value in (("offsets beyond the end", [0, 2**40]), ("offsets in reverse", [64, 0]),
                        ("negative offsets", [-64, 0])):  # fmt: skip
        yield name, closed(changed(header, (first, "data_offsets"), value), data)
    for name, value in (("a shape of a petabyte", [2**30, 2**20]), ("a negative shape", [-1, 4]), ("no shape", None)):
        yield name, closed(changed(header, (first, "shape"), value), data)
    yield "another dtype", closed(changed(header, (first, "dtype"), "I32"), data)
    yield "an unknown dtype", closed(changed(header, (first, "dtype"), "OBJECT"), data)
    description = header["__metadata__"][key]
    state = json.loads(description)
    for name, document in [*spoiled_values(state, states, seed=1)]:
        yield name, closed(changed(header, ("__metadata__", key), json.dumps(document)), data)
    for name, text in (("a description that is no JSON", "{"), ("a description of 100,000 brackets", "[" * 100_000),
                       ("a description that is code", "__import__('os')")):  # fmt: skip
        yield name, closed(changed(header, ("__metadata__", key), text), data)
    yield from _other_tensors(content, header["__metadata__"])


def _other_tensors(content: bytes, described: dict) -> Iterator[tuple[str, bytes]]:
    tensors = load_tensors(content)
    first = next(iter(tensors))
    others = {
        "a tensor less": {name: tensor for name, tensor in tensors.items() if name != first},
        "a tensor more": tensors | {"shared/__class__": torch.ones(3)},
        "a name with slashes": tensors | {"personal/0/../../x": torch.ones(3)},
        "a client that is no number": tensors | {"pool/zero": torch.ones(3)},
        "a client too many": tensors | {"pool/9": tensors[first].clone()},
        "no tensors": {},
    }
    others |= {f"{first} not a number": tensors | {first: tensors[first] * torch.nan}}
    others |= {f"{first} infinite": tensors | {first: tensors[first] + torch.inf}}
    others |= {f"{first} of another shape": tensors | {first: tensors[first].flatten()[:-1].clone()}}
    others |= {f"{first} of whole numbers": tensors | {first: tensors[first].long()}}
    others |= {f"{first} changed by 1": tensors | {first: tensors[first] + 1}}
    for name, made in others.items():
        yield name, save_tensors({key: tensor.clone() for key, tensor in made.items()}, described)


class Payload:
    """What executes a command when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def pickles() -> Iterator[tuple[str, callable]]:
    """Pickles that execute something where pickles are read: (name, content for a folder)."""
    import builtins
    import os
    import subprocess

    def canary(folder: Path) -> str:
        return str(folder.parent / CANARY)

    calls = {
        "os.system": lambda folder: Payload(os.system, f"touch {canary(folder)}"),
        "subprocess": lambda folder: Payload(subprocess.call, ["touch", canary(folder)]),
        "eval": lambda folder: Payload(builtins.eval, f"open({canary(folder)!r}, 'w')"),
        "exec": lambda folder: Payload(builtins.exec, f"open({canary(folder)!r}, 'w')"),
        "open": lambda folder: Payload(builtins.open, canary(folder), "w"),
        "os.makedirs": lambda folder: Payload(os.mknod, canary(folder)),
        "pathlib": lambda folder: Payload(Path.touch, Path(canary(folder))),
    }
    for name, call in calls.items():
        yield f"a pickle that calls {name}", lambda folder, call=call: pickle.dumps(call(folder), protocol=2)
    for name, call in list(calls.items())[:4]:
        yield f"torch.save of {name} among tensors", partial(_saved, call)
    yield "a pickle without an end", lambda folder: b"\x80\x04\x8c\x08builtins"


def _saved(call, folder: Path) -> bytes:
    torch.save({"a": torch.ones(3), "b": call(folder)}, path := folder / "made.pt")
    content = path.read_bytes()
    path.unlink()
    return content


def caches(base: bases.Base) -> Iterator[Hostile]:
    """Spoiled features are noticed and computed again."""
    files = [
        path.relative_to(base.cache) for path in sorted(base.cache.rglob("*")) if path.suffix in (".f32", ".crc32")
    ]
    for number, file in enumerate(files):
        content = (base.cache / file).read_bytes()
        for name, made in spoiled(content, 6, seed=number):
            if name in ("twice in a row", "a tail of zeros"):
                continue  # a table may have room for more views
            yield Hostile(
                "feature cache",
                f"{file.name[13:]}: {name}",
                partial(_spoil_cache, base, file, made),
                command(*base.run(cache="{}/cache")),
                base.wrong,
            )
    for number, (name, value) in enumerate((("not a number", np.nan), ("infinite", np.inf), ("huge", 1e30))):
        table = next(file for file in files if file.suffix == ".f32")
        rows = np.fromfile(base.cache / table, np.float32)
        rows[number::7] = value
        yield Hostile(
            "feature cache",
            f"features {name}",
            partial(_spoil_cache, base, table, rows.tobytes()),
            command(*base.run(cache="{}/cache")),
            base.wrong,
        )
    names = (
        "<b>x</b>-0123456789ab",
        "\x1b[2J-0123456789ab",
        "\u202ecod-0123456789ab",
        "a\nb-0123456789ab",
        "$(touch x)-0123456789ab",
    )
    for name in names:

        def listed(folder: Path, name: str = name) -> None:
            write(folder / name / "0123456789ab-train.f32", bytes(64))
            write(folder / name / "0123456789ab-train.crc32", bytes(4))
            write(folder / name / "0123456789ab.json", as_json({"model": "\x1b[31mred", "weights": name}))

        yield Hostile(
            "feature cache",
            f"a folder called {name!a}",
            listed,
            command("cache", "--cache-dir", "{}"),
            lambda folder, printed: None,
        )
    for name, document in [*other_documents()]:

        def noted(folder: Path, document: bytes = document) -> None:
            write(folder / "a-0123456789ab/0123456789ab-train.f32", bytes(64))
            write(folder / "a-0123456789ab/0123456789ab-train.crc32", bytes(4))
            write(folder / "a-0123456789ab/0123456789ab.json", document)

        yield Hostile(
            "feature cache",
            f"a note that is {name}",
            noted,
            command("cache", "--cache-dir", "{}"),
            lambda folder, printed: None,
        )


def _spoil_cache(base: bases.Base, file: Path, content: bytes, folder: Path) -> None:
    shutil.copytree(base.cache, folder / "cache")
    (folder / "cache" / file).write_bytes(content)


def personal_models(base: bases.Base) -> Iterator[Hostile]:
    """A spoiled personal model is refused, or says what it says unspoiled."""
    image = next(base.folder.glob("photographs/*/0.jpg"))
    truth = _predict(image, base.folder / "personal.safetensors")

    def wrong(folder: Path, printed: str) -> str | None:
        return None if printed.strip() == truth else "other probabilities"

    act = lambda folder: _predict(image, folder / "personal.safetensors")  # noqa: E731
    made = [*spoiled(base.personal, 12), *_tensor_files(base.personal, "pfedmoap", states=40)]
    for name, content in made:
        yield Hostile("personal model", name, partial(_put, "personal.safetensors", content), act, wrong)
    header, data = opened(base.personal)
    older = closed(without(header, ("__metadata__", "sha256")), data)
    for name, content in _tensor_files(older, "pfedmoap", states=40):  # of an earlier version, without a checksum
        if name.endswith("changed by 1"):
            continue  # which nothing in such a file can tell
        yield Hostile(
            "personal model", f"an older one, {name}", partial(_put, "personal.safetensors", content), act, wrong
        )
    told = json.loads(header["__metadata__"]["pfedmoap"])
    lies = {
        "another fingerprint": changed(told, ("clip", "fingerprint"), "0" * 64),
        "weights outside its folder": changed(told, ("clip", "weights"), "../secret.txt"),
        "weights at an address": changed(told, ("clip", "weights"), "http://localhost:1/x.pt"),
        "a model that is a path": changed(told, ("clip", "model"), "../../etc/passwd"),
        "a model of a hub": changed(told, ("clip", "model"), "hf-hub:someone/something"),
        "a method that is a module": changed(told, ("method", "name"), "os"),
        "a method's hidden attribute": changed(told, ("method",), {"name": "pfedmoap", "__class__": "x"}),
        "a class less": changed(told, ("class_names",), told["class_names"][:-1]),
        "no classes": changed(told, ("class_names",), []),
        "classes as one text": changed(told, ("class_names",), "abcdefghij"),
    }
    for name, document in lies.items():
        content = closed(changed(header, ("__metadata__", "pfedmoap"), json.dumps(document)), data)
        yield Hostile("personal model", name, partial(_put, "personal.safetensors", content), act, wrong)
    for name, content in pickles():
        yield Hostile(
            "personal model",
            name,
            lambda folder, content=content: write(folder / "personal.safetensors", content(folder)),
            act,
        )


def _predict(image: Path, path: Path) -> str:
    from pfedmoap.experiments import Personalised

    prediction = Personalised.load(path).predict(image)
    return ", ".join(
        f"{name!a} {value:.6f}" for name, value in zip(prediction.classes, prediction.probabilities, strict=True)
    )


def weights(base: bases.Base) -> Iterator[Hostile]:
    """Weight files: code in them is never executed, and what is no CLIP of that name is refused."""
    for ending in ("pt", "safetensors", "bin"):
        act = command(*base.run("--weights", "{}/weights." + ending, cache="{}/cache"))
        for name, content in pickles():
            yield Hostile(
                "weights",
                f".{ending}: {name}",
                lambda folder, content=content, ending=ending: write(folder / f"weights.{ending}", content(folder)),
                act,
            )
    good = torch.ones(4, 4)
    others = {
        "a tensor": good,
        "a list": [good],
        "a number": 3,
        "no tensors": {},
        "names that are numbers": {1: good},
        "values that are text": {"visual.proj": "x"},
        "a state dict in a state dict": {"state_dict": {"a": good}},
        "a state dict that is a list": {"state_dict": [good]},
    }
    act = command(*base.run("--weights", "{}/weights.pt", cache="{}/cache"))
    for name, content in others.items():
        yield Hostile(
            "weights",
            f"torch.save of {name}",
            lambda folder, content=content: torch.save(content, folder / "weights.pt"),
            act,
        )
    tensors = save_tensors(
        {"visual.proj": good, "token_embedding.rows": good + 1, "token_embedding.ids": torch.arange(4)}
    )
    safe = command(*base.run("--weights", "{}/weights.safetensors", cache="{}/cache"))
    for name, content in spoiled(tensors, 4):
        yield Hostile("weights", f".safetensors: {name}", partial(_put, "weights.safetensors", content), safe)
    yield Hostile(
        "weights",
        "ids of tokens beyond the vocabulary",
        partial(
            _put,
            "weights.safetensors",
            save_tensors({"token_embedding.rows": good, "token_embedding.ids": torch.full((4,), 10**6)}),
        ),
        safe,
    )
    yield Hostile("weights", "TorchScript", _write_script, act)


def _write_script(folder: Path) -> None:
    class Module(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    torch.jit.save(torch.jit.script(Module()), folder / "weights.pt")
