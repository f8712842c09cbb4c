"""A prompt in words: the tokens of CLIP's vocabulary that are nearest to its context vectors.

As in CoOp's section on what a learned prompt means (Zhou et al. 2022).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from pfedmoap.checkpoints import ASSETS
from pfedmoap.clip import Clip
from pfedmoap.leakage.scoring import auc
from pfedmoap.prompts import word_tokens

KINDS = "euclidean", "cosine"


def distances(clip: Clip, vectors: Tensor, tokens: Tensor, kind: str = "euclidean") -> Tensor:
    """Distances of context vectors to the embeddings of tokens.

    Args:
        vectors: (..., e).
        tokens: (v,) int64 ids.
        kind: "euclidean", or "cosine": 1 - cosine.

    Returns:
        (..., v), fp32, on the CPU.
    """
    table = clip.token_embedding.weight[tokens.to(clip.device)].detach().float().cpu()  # (v, e)
    vectors = vectors.float().cpu()
    if kind == "cosine":
        return 1 - F.normalize(vectors, dim=-1) @ F.normalize(table, dim=-1).T
    return torch.cdist(vectors.flatten(0, -2), table).unflatten(0, vectors.shape[:-1])


def nearest(
    clip: Clip, vectors: Tensor, count: int = 1, tokens: Tensor | None = None, kind: str = "euclidean"
) -> Tensor:
    """The nearest tokens of every context vector, nearest first: (..., e) -> ids (..., count).

    Args:
        tokens: (v,) ids to choose from; None: the whole vocabulary.
    """
    tokens = vocabulary(clip) if tokens is None else tokens
    return tokens[distances(clip, vectors, tokens, kind).topk(count, largest=False).indices]


def words(clip: Clip, ids: Tensor) -> np.ndarray:
    """Token ids as the text that they stand for, an array of the same shape."""
    tokenizer = getattr(clip.tokenizer, "tokenizer", clip.tokenizer)  # what open_clip's wrapper of transformers' holds
    decoded = [tokenizer.decode([token]).strip() for token in ids.flatten().tolist()]
    return np.array(decoded, dtype=object).reshape(ids.shape)


def vocabulary(clip: Clip) -> Tensor:
    """All token ids."""
    return torch.arange(len(clip.token_embedding.weight))


def trained(clip: Clip) -> Tensor:
    """The ids whose embeddings mean something: of the shipped CLIP those it was trained on, else all."""
    path = ASSETS / f"{clip.name}.safetensors"
    if clip.weights == path.name and path.is_file():
        with safe_open(path, "pt") as file:
            if "token_embedding.ids" in file.keys():
                return file.get_tensor("token_embedding.ids").long()
    return vocabulary(clip)


def table(clip: Clip, start: Tensor, upload: Tensor, count: int = 3) -> pd.DataFrame:
    """One row per context vector: its nearest words before and after training, how far the nearest is, and the move.

    Args:
        start, upload: (m, e).
    """
    choices = {"all tokens": vocabulary(clip)}
    if len(known := trained(clip)) < len(choices["all tokens"]):
        choices["trained tokens"] = known
    rows = {f"{title}: of {which}": list(map(", ".join, words(clip, nearest(clip, prompt, count, tokens))))
            for which, tokens in choices.items() for title, prompt in (("start", start), ("upload", upload))}
    rows["distance to the nearest"] = distances(clip, upload, vocabulary(clip)).min(1).values.numpy().round(3)
    rows["moved by"] = (upload - start).norm(dim=1).numpy().round(4)
    return pd.DataFrame(rows, index=[f"p_{place}" for place in range(1, len(upload) + 1)])


def unchanged(clip: Clip, start: Tensor, upload: Tensor) -> float:
    """The share of context vectors whose nearest token is the one that it was before training: (m, e), (m, e) -> 0..1.
    """
    return float((nearest(clip, start) == nearest(clip, upload)).float().mean())


def names_nearer(
    clip: Clip, class_names: Sequence[str], owned: np.ndarray, start: Tensor, upload: Tensor
) -> tuple[float, float]:
    """Whether the tokens of a client's own class names are nearer to its prompt than those of other classes.

    A class's distance is the mean over its name's tokens of the distance to the nearest context vector.

    Args:
        owned: (C,) bool; start, upload: (m, e).

    Returns:
        Area under the curve of "nearer", and of "came nearer than it was at the start"; 0.5 tells nothing.
    """
    before, after = (_to_names(clip, class_names, prompt) for prompt in (start, upload))
    return auc(-after, owned), auc(before - after, owned)


def _to_names(clip: Clip, class_names: Sequence[str], prompt: Tensor) -> np.ndarray:
    """(m, e) -> (C,)."""
    tokens = [torch.tensor(word_tokens(clip, name)) for name in class_names]
    return np.array([float(distances(clip, prompt, own).min(0).values.mean()) for own in tokens])
