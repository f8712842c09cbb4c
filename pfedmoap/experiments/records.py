"""What is stored of a run: its record, checkpoints that it can go on from, and records as a table."""

import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch

from pfedmoap.beyond import in_percent
from pfedmoap.errors import UserError
from pfedmoap.experiments.preparation import Prepared
from pfedmoap.experiments.processor import instruction_set
from pfedmoap.released import Protocol
from pfedmoap.server import Tensors
from pfedmoap.system import cores

Record = dict[str, Any]
PACKAGES = ("torch", "open_clip_torch", "torchvision", "numpy", "pfedmoap")


def resume(prepared: Prepared, tensors: Tensors, state: dict[str, Any]) -> None:
    """Goes on from a checkpoint.

    Raises:
        UserError: it belongs to another experiment, data set or CLIP.
    """
    for name, value in prepared.identity.items():
        if state.get(name) != value:
            raise UserError(f"The checkpoint of {prepared.experiment.label} belongs to another experiment, data set or "
                            f"CLIP (its {name} is {state.get(name)}, not {value}): delete it, or use another --results "
                            f"folder.")
    prepared.federation.restore(tensors, state)


def record_of(
    prepared: Prepared, seconds: dict[str, float], seeds_per_batch: int = 1, beyond: dict[str, Any] | None = None
) -> Record:
    """What is stored of a run: what `run` returns.

    Args:
        seconds: wall time; of a batch, the run's share.
        seeds_per_batch: runs in the batch that it ended in.
        beyond: what was asked beyond the paper's test, and found (`examination.examine`).
    """
    federation, imageset = prepared.federation, prepared.imageset
    means = [entry.accuracy for entry in federation.history]
    return {
        "key": prepared.experiment.key,
        "experiment": prepared.experiment.to_dict(),
        "accuracy": means[-1],
        "accuracy_last5": float(np.mean(means[-5:])),
        "rounds": [asdict(entry) | {"accuracy": entry.accuracy} for entry in federation.history],
        "seconds": seconds,
        "seeds_per_batch": seeds_per_batch,
        "data": {"fingerprint": imageset.fingerprint, "source": imageset.source,
                 "notes": list(prepared.partition.notes), "classes": len(imageset.class_names),
                 "train_images": [len(own) for own in prepared.partition.train],
                 "test_images": [len(own) for own in prepared.partition.test]},
        "clip": {"name": prepared.clip.name, "weights": prepared.clip.weights,
                 "fingerprint": prepared.clip.fingerprint, "device": str(prepared.clip.device)},
        "machine": _machine(prepared.clip.device),
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
    } | ({"beyond": beyond} if beyond else {})


def frame(records: Sequence[Record]) -> pd.DataFrame:
    """One row per record: the experiment's settings, the method's as `method.<setting>`, and the results in percent.

    What was found beyond the paper's test is in `beyond.<measure>`, mean over clients.
    """
    rows = []
    for record in records:
        settings = dict(record["experiment"])
        method = settings.pop("method")
        settings["protocol"] = str(Protocol(**settings.get("protocol", {})))
        row = settings | {"method": method["name"]} | {f"method.{k}": v for k, v in method.items() if k != "name"}
        last = np.array(record["rounds"][-1]["accuracies"], dtype=float)  # None: a client that was not reached
        row |= {"accuracy": 100 * record["accuracy"], "accuracy_last5": 100 * record["accuracy_last5"],
                "worst_client": 100 * np.nanmin(last), "seconds": record["seconds"]["total"], "key": record["key"]}
        row |= {f"beyond.{name}": value for name, value in in_percent(record.get("beyond", {})).items()}
        rows.append(row)
    return pd.DataFrame(rows)


def _machine(device: torch.device) -> str:
    """Such as "x86_64 with AMX, 16 cores, NVIDIA H100"; no name that a person gave it."""
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return f"{platform.machine()} with {instruction_set()}, {cores.count()} cores{gpu}"


