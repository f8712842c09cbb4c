"""The embedded CLIP as a file: an ordinary open_clip model whose token table is stored in part."""

import json
import math
from pathlib import Path

import numpy as np
import torch
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file

from pfedmoap.clip import ASSETS

CONFIG = ASSETS / "embedded_clip.json"
WEIGHTS = ASSETS / "embedded_clip.safetensors"
TABLE = "token_embedding.weight"


def build(config: dict) -> CLIP:
    """An open_clip model of the configured shape: random weights, and `token_table` as its token table."""
    model = CLIP(**config)
    with torch.no_grad():
        model.token_embedding.weight.copy_(token_table(config))
    return model


def token_table(config: dict) -> torch.Tensor:
    """The table from which training starts, and which holds the tokens that no caption uses: (vocabulary, width)."""
    shape = config["text_cfg"]["vocab_size"], config["text_cfg"]["width"]
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape, dtype=np.float32) * np.float32(0.02))


def save(model: CLIP, ids: np.ndarray, path: Path) -> None:
    """Writes the weights in half precision, of the token table only the rows `ids` (sorted).

    The stored logit scale is log(100), as OpenAI's models have it: prompts are learned at that temperature whatever
    the one that suited this model's own training.
    """
    state = {key: value.detach().half().contiguous() for key, value in model.state_dict().items()}
    state["logit_scale"] = torch.tensor(math.log(100.0)).half()
    rows = torch.from_numpy(np.asarray(ids, np.int32))
    state["token_embedding.ids"], state["token_embedding.rows"] = rows, state.pop(TABLE)[rows.long()].contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)


def read(weights: Path = WEIGHTS, config: Path = CONFIG) -> CLIP:
    """Reads the model in single precision and eval mode."""
    settings = json.loads(Path(config).read_text())
    state = {key: value if value.dtype == torch.int32 else value.float() for key, value in load_file(weights).items()}
    table = token_table(settings)
    table[state.pop("token_embedding.ids").long()] = state.pop("token_embedding.rows")
    model = build(settings)
    model.load_state_dict(state | {TABLE: table}, strict=True)
    return model.eval()


def inputs(pictures: np.ndarray) -> torch.Tensor:
    """(n, 32, 32, 3) uint8 -> (n, 3, 32, 32) float32, with the mean and deviation of OpenAI's models."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    return ((pixels - mean) / std).contiguous()
