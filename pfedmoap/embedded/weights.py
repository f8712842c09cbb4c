"""The embedded CLIP as a file: an ordinary open_clip model in half precision, whose token table is stored in part."""

import json
import math
from pathlib import Path

import numpy as np
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file

from pfedmoap.checkpoints import ASSETS

NAME = "embedded_clip"
CONFIG = ASSETS / f"{NAME}.json"
WEIGHTS = ASSETS / f"{NAME}.safetensors"
FIGURES = ASSETS / f"{NAME}_figures.json"
TRAINING = ASSETS / f"{NAME}_training.csv"
TABLE = "token_embedding.weight"


def build(config: dict) -> CLIP:
    """An open_clip model of the configured shape: random weights, and `token_table` as its token table."""
    model = CLIP(**config)
    with torch.no_grad():
        model.token_embedding.weight.copy_(token_table(config))
    return model


def configuration() -> dict:
    return json.loads(CONFIG.read_text())


def token_table(config: dict) -> torch.Tensor:
    """The table from which training starts, and which holds the tokens that no caption uses: (vocabulary, width)."""
    shape = config["text_cfg"]["vocab_size"], config["text_cfg"]["width"]
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape, dtype=np.float32) * np.float32(0.02))


def save(model: CLIP, ids: np.ndarray, path: Path) -> None:
    """Writes the weights in half precision, of the token table only the rows `ids` (sorted).

    The stored logit scale is log(100), as OpenAI's models have it.
    """
    state = {key: _half(value.detach()) for key, value in model.state_dict().items()}
    state["logit_scale"] = torch.tensor(math.log(100.0)).half()
    rows = torch.from_numpy(np.asarray(ids, np.int32))
    state["token_embedding.ids"], state["token_embedding.rows"] = rows, state.pop(TABLE)[rows.long()].contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)


def _half(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.half().contiguous() if tensor.is_floating_point() else tensor
