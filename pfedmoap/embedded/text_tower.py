"""Teaches a CLIP text tower where names lie among image features."""

import math
from collections.abc import Callable

import numpy as np
import torch
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from pfedmoap.embedded.phrases import Phrases

BATCH = 256
LEARNING_RATE = 2e-3
BLOCK_LEARNING_RATE = 8e-3
TABLE_LEARNING_RATE = 2e-2  # most rows of the token table are met rarely
WARM_UP = 200
WEIGHT_DECAY = 0.05
SCALE = 20.0  # inverse temperature of the contrast between a batch's captions


class Vocabulary:
    """The tokens that captions hold, with a trained table of their rows alone.

    A table of 49,408 rows would spend most of a step on the gradient of rows that never occur.

    Attributes:
        ids: (n,) int32, sorted.
        table: the rows, in the order of `ids`.
    """

    def __init__(self, model: CLIP, words: set[str]):
        tokenizer = SimpleTokenizer()
        self._encode = tokenizer.encode
        self._ends = tokenizer.sot_token_id, tokenizer.eot_token_id
        inner = {token for word in words for text in (word, f"{word}.") for token in self._encode(text)}
        self.ids = np.array(sorted({0, *self._ends, *inner}), np.int32)
        start = model.token_embedding.weight[self.ids.astype(int)].detach().clone()
        self.table = nn.Embedding.from_pretrained(start, freeze=False)

    def rows(self, caption: str) -> np.ndarray:
        """The places in `ids` of a caption's tokens, with the marks of its start and end."""
        return np.searchsorted(self.ids, [self._ends[0], *self._encode(caption), self._ends[1]])


def encode(model: CLIP, vocabulary: Vocabulary, captions: list[str]) -> Tensor:
    """Normalised features (captions, d); long captions apart from short ones, so that few tokens are padding."""
    rows = [vocabulary.rows(caption)[: model.context_length] for caption in captions]
    order = np.argsort([len(row) for row in rows], kind="stable")
    halves = np.array_split(order, 2) if len(order) > 1 else [order]
    features = torch.cat([_encode(model, vocabulary, [rows[k] for k in half]) for half in halves])
    return features[torch.from_numpy(np.argsort(order))]


def _encode(model: CLIP, vocabulary: Vocabulary, rows: list[np.ndarray]) -> Tensor:
    lengths = torch.tensor([len(row) for row in rows])
    padded = nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True)
    longest = padded.shape[1]
    hidden = vocabulary.table(padded) + model.positional_embedding[:longest]
    hidden = model.transformer(hidden, attn_mask=model.attn_mask[:longest, :longest])  # (captions, longest, width)
    ends = model.ln_final(hidden[torch.arange(len(rows)), lengths - 1])
    return F.normalize(ends @ model.text_projection, dim=-1)


def loss_of(features: Tensor, targets: Tensor, meant: Tensor) -> Tensor:
    """How far captions are from their targets, and from those of the other captions of the batch.

    Args:
        features, targets: (batch, d), normalised.
        meant: (batch,) rows of the targets; captions that mean the same are no contrast.
    """
    cosines = features @ targets.T  # (batch, batch)
    same = (meant[:, None] == meant) & ~torch.eye(len(meant), dtype=torch.bool)
    contrast = F.cross_entropy((SCALE * cosines).masked_fill(same, float("-inf")), torch.arange(len(meant)))
    return contrast + 1 - cosines.diagonal().mean()


def learning_rate(step: int, steps: int, warm_up: int = WARM_UP) -> float:
    """Linear warm-up, then half a cosine down to zero, relative to the highest rate."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def teach(
    model: CLIP, phrases: Phrases, targets: np.ndarray, seed: int, steps: int, report: Callable[[int, float], None]
) -> np.ndarray:
    """Trains the text tower in place.

    Args:
        model: its text tower starts from random weights; nothing else of it is touched.
        phrases: draws captions.
        targets: (rows, d), normalised; what captions mean.
        seed: of the captions.
        steps: batches of `BATCH` captions.
        report: called after every step with its number, from 1 on, and its loss.

    Returns:
        The ids of the trained token rows, sorted, (n,).
    """
    random, vocabulary = np.random.default_rng(seed), Vocabulary(model, phrases.words())
    optimizers = _optimizers(model, vocabulary)
    trained = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    schedules = [LambdaLR(optimizer, lambda step: learning_rate(step, steps)) for optimizer in optimizers]
    for step in range(1, steps + 1):
        captions, meant = phrases.draw(random, BATCH)
        loss = loss_of(encode(model, vocabulary, captions), torch.from_numpy(targets[meant]), torch.from_numpy(meant))
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        for stepper in (*optimizers, *schedules):
            stepper.step()
        for optimizer in optimizers:
            optimizer.zero_grad()
        report(step, loss.item())
    with torch.no_grad():
        model.token_embedding.weight[vocabulary.ids.astype(int)] = vocabulary.table.weight
    return vocabulary.ids


def _optimizers(model: CLIP, vocabulary: Vocabulary) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the transformer's blocks, AdamW for all else."""
    blocks = [p for p in model.transformer.parameters() if p.ndim == 2]
    vectors = [p for p in (*model.transformer.parameters(), *model.ln_final.parameters()) if p.ndim < 2]
    groups = [
        {"params": [model.text_projection]},
        {"params": [*vectors, model.positional_embedding], "weight_decay": 0.0},
        {"params": [vocabulary.table.weight], "weight_decay": 0.0, "lr": TABLE_LEARNING_RATE},
    ]
    return [
        torch.optim.AdamW(groups, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98)),
        torch.optim.Muon(blocks, lr=BLOCK_LEARNING_RATE, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
    ]
