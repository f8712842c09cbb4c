"""`pfedmoap info`: versions, machine, model, data sets, and what is on disk."""

import json
import platform
import sys
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from pfedmoap.commands.shared import AsJson, CacheDir, DataRoot
from pfedmoap.errors import UserError
from pfedmoap.system import ROOT, cores, paths


def info(
    model: Annotated[str, typer.Option(help="open_clip model name.")] = "embedded_clip",
    weights: Annotated[str | None, typer.Option(help=r"Pretrained tag or file. \[default: shipped weights]")] = None,
    data_root: DataRoot = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Show versions, the machine, the model, the data sets and what is on disk.

    Example:

      pfedmoap info --data-root DIR
    """
    from pfedmoap.commands import console

    with redirect_stdout(sys.stderr):
        found = collect(model, weights, data_root, cache_dir)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    else:
        console.show_sections(found)


def collect(model: str, weights: str | None, data_root: Path | None, cache: Path | None) -> dict[str, dict[str, Any]]:
    """Sections of plain values, fit for JSON. What cannot be had is described, never an error."""
    return {
        "versions": _versions(),
        "machine": _machine(),
        "model": _model(model, weights),
        "data sets": _data_sets(data_root),
        "on disk": _on_disk(cache or paths.cache_dir()),
    }


def _versions() -> dict[str, str]:
    packages = ("pfedmoap", "torch", "torchvision", "open_clip_torch", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def _machine() -> dict[str, Any]:
    import torch

    from pfedmoap.experiments import instruction_set

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {"cores": cores.count(), "instructions": instruction_set(), "gpus": ", ".join(gpus) or "none"}


def _model(name: str, weights: str | None) -> dict[str, Any]:
    import open_clip

    from pfedmoap.clip import load_clip
    from pfedmoap.prompts import text_path

    path = {"prompts go through": text_path(name)} if open_clip.get_model_config(name) else {}
    try:
        loaded = load_clip(name, weights)
        prompts_start = len(loaded.marks.start)  # needs the tokenizer
    except UserError as error:
        return {"name": name, "missing": str(error)} | path
    return {
        "name": loaded.name,
        "weights": loaded.weights,
        "fingerprint": loaded.fingerprint[:12],
        "feature width d": loaded.embed_dim,
        "token width e": loaded.token_width,
        "logit scale s": round(loaded.logit_scale, 4),
        "QuickGELU": loaded.quick_gelu,
        "prompts start at position": prompts_start,
    } | path


def _data_sets(root: Path | None) -> dict[str, str]:
    from pfedmoap.data import FOLDERS, ON_DISK
    from pfedmoap.experiments import dataset_names, load_dataset

    def describe(name: str) -> str:
        if name == FOLDERS:
            return "your own images; `pfedmoap data folders --data-root DIR` looks at them"
        if name not in ON_DISK:
            return "embedded"
        if root is None:
            return "on disk; --data-root DIR looks for it"
        try:
            return load_dataset(name, root).source
        except UserError as error:
            return str(error)

    return {name: describe(name) for name in dataset_names()} | {
        "hf:NAME": "from Hugging Face's hub, or a folder of parquet files; `pfedmoap data hf:NAME` looks at it"}


def _on_disk(cache: Path) -> dict[str, str]:
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    found = {"feature cache": f"{cache}, {size / 1e6:,.1f} MB"}
    for folder in sorted((ROOT / "results").glob("*/records")):
        found[f"results/{folder.parent.name}"] = f"{len(list(folder.glob('*.json')))} runs"
    return found
