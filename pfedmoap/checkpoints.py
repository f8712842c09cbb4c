"""Files of CLIP weights: where they are, how they are read without executing code from them, and what they expect."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from safetensors.torch import load_file
from torch import Tensor

from pfedmoap.errors import UserError

OPENAI_SCALARS = ("input_resolution", "context_length", "vocab_size")  # what OpenAI's state dicts hold besides weights
ASSETS = Path(__file__).resolve().with_name("embedded") / "assets"  # the shipped CLIP
PREPROCESSING = {"embedded_clip": {"mean": (0.5,) * 3, "std": (0.5,) * 3}}  # where open_clip's own is another
VIEW = "mean", "std", "interpolation", "resize_mode"  # of a preprocessing, what weights were trained with


def find_weights(model: str, weights: str | None) -> tuple[Path, bool]:
    """The file behind `weights`, and whether its pretrained tag demands QuickGELU."""
    shipped = ASSETS / f"{model}.safetensors"
    tags = open_clip.list_pretrained_tags_by_model(model)
    remedy = f"give a file with --weights PATH, or a pretrained tag of {model} ({', '.join(tags) or 'it has none'})"
    if weights is None:
        if not shipped.is_file():
            raise UserError(f"{model} ships without weights: {remedy}.")
        return shipped, False
    if Path(weights).is_file():
        return Path(weights), False
    if weights not in tags:
        raise UserError(f"{weights!r} is neither a file nor a pretrained tag of {model}: {remedy}.")
    config = open_clip.get_pretrained_cfg(model, weights)
    try:
        return Path(open_clip.download_pretrained(config)), bool(config.get("quick_gelu"))
    except Exception as error:  # whatever the download library raises: no network, no such file, disk full
        where = config.get("hf_hub") or config.get("url")
        raise UserError(f"The weights {model} / {weights} could not be downloaded ({type(error).__name__}). Fetch "
                        f"{where} on a machine with network and {remedy}.") from error


def find_view(model: str, weights: str | None) -> dict[str, Any] | None:
    """The preprocessing that a tag's weights were trained with; of a file that of the model's tags, if it is one."""
    tags = open_clip.list_pretrained_tags_by_model(model)
    views = [open_clip.get_pretrained_cfg(model, tag) for tag in ([weights] if weights in tags else tags)]
    views = [{key: view[key] for key in VIEW if key in view} for view in views]
    return PREPROCESSING.get(model) or (views[0] if views and views.count(views[0]) == len(views) else None)


def read_state_dict(path: Path) -> tuple[dict[str, Tensor], bool]:
    """Reads weights without ever executing code from the file.

    Returns:
        The tensors by open_clip's names, and whether the file is in OpenAI's format (which means QuickGELU).
    """
    state = _read_tensors(path)
    openai_format = all(name in state for name in OPENAI_SCALARS)
    state = {name: tensor for name, tensor in state.items() if name not in OPENAI_SCALARS}
    return state, openai_format


def fit_weights(network: torch.nn.Module, state: dict[str, Tensor], name: str, path: Path) -> None:
    """Loads weights that are all of a network's, and of no other architecture's."""
    expected = network.state_dict()
    state = _by_todays_names(network, state, expected)
    wrong = [f"{key} is {tuple(state[key].shape)}, not {tuple(value.shape)}"
             for key, value in expected.items() if key in state and state[key].shape != value.shape]
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    wrong += [f"{key} is missing" for key in missing] + [f"{key} is not part of the model" for key in extra]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(f"{path} holds weights of another architecture than {name}: {'; '.join(wrong[:3])}{more}. "
                        f"Choose the --model they belong to.")
    network.load_state_dict(state)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any("/code/" in name for name in archive.namelist()):
                raise UserError(
                    f"{path} is a TorchScript archive: it holds code, which this package never executes. Use the tag "
                    f"(--weights openai), or convert it once where you trust it: python -c \"import torch; torch.save("
                    f"torch.jit.load('{path.name}', 'cpu').state_dict(), 'weights.pt')\"")
    try:
        safe = path.suffix == ".safetensors"
        state = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
        found = state.get("state_dict", state) if isinstance(state, dict) else None
        if isinstance(found, dict):
            found = {name.removeprefix("module."): tensor.detach() for name, tensor in found.items()}
            if "token_embedding.rows" in found:
                found["token_embedding.weight"] = _full_token_table(found)
    except Exception as error:  # unpickling errors of many kinds; all mean the same to the user
        raise UserError(f"{path} is not a plain file of tensors ({type(error).__name__}): use a safetensors file or a "
                        f"state dict written by torch.save.") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} holds a {type(state).__name__}, not a state dict: save `model.state_dict()`.")
    return found


def _full_token_table(state: dict[str, Tensor], vocabulary: int = 49408) -> Tensor:
    """The token table of a file that stores only the rows that were trained; the others keep their seeded start."""
    ids, rows = state.pop("token_embedding.ids"), state.pop("token_embedding.rows").float()
    start = np.random.default_rng(0).standard_normal((vocabulary, rows.shape[1]), dtype=np.float32)
    table = torch.from_numpy(start * 0.02)
    table[ids.long()] = rows
    return table


def _by_todays_names(
    network: torch.nn.Module, state: dict[str, Tensor], expected: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Weights that other makers or earlier releases of open_clip named otherwise, as its `load_checkpoint` reads them.
    """
    state = convert_state_dict(network, state)
    if hasattr(network, "text"):
        state = convert_to_custom_text_state_dict(state)
    if "logit_bias" in expected:
        state = {"logit_bias": torch.zeros_like(expected["logit_bias"])} | state
    scalars = {key: state[key].reshape(expected[key].shape) for key in ("logit_scale", "logit_bias")
               if key in state and key in expected and state[key].numel() == 1}
    buffer = "text.transformer.embeddings.position_ids"  # of earlier releases of the transformers package
    return {key: value for key, value in (state | scalars).items() if key != buffer or key in expected}
