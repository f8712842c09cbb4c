"""What `pfedmoap info` finds out: versions, machine, model, data sets, and what is on disk."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pfedmoap import clip
from pfedmoap.data import FOLDERS
from pfedmoap.embedded import sets
from pfedmoap.errors import UserError
from pfedmoap.experiments import dataset_names, load_dataset
from pfedmoap.system import ROOT, cache_dir, cores


def collect(model: str, weights: str | None, data_root: Path | None, cache: Path | None) -> dict[str, dict[str, Any]]:
    """Sections of plain values, fit for JSON. What cannot be had is described, never an error."""
    return {
        "versions": _versions(),
        "machine": _machine(),
        "model": _model(model, weights),
        "data sets": {name: _data_set(name, data_root) for name in dataset_names()},
        "on disk": _on_disk(cache or cache_dir()),
    }


def _versions() -> dict[str, str]:
    packages = ("pfedmoap", "torch", "torchvision", "open_clip_torch", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def _machine() -> dict[str, Any]:
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {"cores": cores.count(), "gpus": ", ".join(gpus) or "none"}


def _model(name: str, weights: str | None) -> dict[str, Any]:
    try:
        loaded = clip.load_clip(name, weights)
    except UserError as error:
        return {"name": name, "missing": str(error)}
    return {
        "name": loaded.name,
        "weights": loaded.weights,
        "fingerprint": loaded.fingerprint[:12],
        "feature width d": loaded.embed_dim,
        "token width e": loaded.token_width,
        "logit scale s": round(loaded.logit_scale, 4),
        "QuickGELU": loaded.quick_gelu,
    }


def _data_set(name: str, root: Path | None) -> str:
    if name in sets.NAMES:
        return "embedded"
    if name == FOLDERS:
        return "your own images; `pfedmoap data folders --data-root DIR` looks at them"
    if root is None:
        return "on disk; --data-root DIR looks for it"
    try:
        return load_dataset(name, root).source
    except UserError as error:
        return str(error)


def _on_disk(cache: Path) -> dict[str, str]:
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    found = {"feature cache": f"{cache}, {size / 1e6:,.1f} MB"}
    for folder in sorted((ROOT / "results").glob("*/records")):
        found[f"results/{folder.parent.name}"] = f"{len(list(folder.glob('*.json')))} runs"
    return found
