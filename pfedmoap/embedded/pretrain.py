"""Pre-trains the embedded CLIP: `python -m pfedmoap.embedded.pretrain --out DIR`.

One thread, a schedule in steps, and pictures drawn as they are needed: the same command gives the same weights on the
same kind of machine.
"""

import argparse
import csv
import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from open_clip.model import CLIP
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from pfedmoap.embedded import corpus, evaluate, sets, tower
from pfedmoap.embedded.captions import vocabulary

STEPS = 6000
BATCH = 128
LEARNING_RATE = 2e-3
BLOCK_LEARNING_RATE = 8e-3
WARM_UP = 200
WEIGHT_DECAY = 0.05
_log = logging.getLogger(__name__)


class Captions:
    """Encodes captions with the model's text tower, using a token table of the caption words alone.

    A table of 49,408 rows would spend most of a step on the gradient of rows that never occur.

    Attributes:
        table: the trained rows, in the order of `ids`.
    """

    def __init__(self, model: CLIP, ids: np.ndarray) -> None:
        self.ids = ids
        self.table = nn.Embedding.from_pretrained(
            model.token_embedding.weight[ids.astype(int)].detach().clone(), freeze=False
        )
        self._model = model

    def encode(self, captions: list[list[int]]) -> torch.Tensor:
        """Normalised features, (captions, d); long captions apart from short ones, so that few tokens are padding."""
        order = sorted(range(len(captions)), key=lambda k: len(captions[k]))
        cut = sum(len(caption) <= 14 for caption in captions)
        features = [self._encode([captions[k] for k in part]) for part in (order[:cut], order[cut:]) if part]
        return torch.cat(features)[torch.tensor(np.argsort(order))]

    def _encode(self, captions: list[list[int]]) -> torch.Tensor:
        model, lengths = self._model, torch.tensor([len(caption) for caption in captions])
        longest = int(lengths.max())
        padded = np.zeros((len(captions), longest), int)
        for row, caption in zip(padded, captions, strict=True):
            row[: len(caption)] = np.searchsorted(self.ids, caption)
        hidden = self.table(torch.from_numpy(padded)) + model.positional_embedding[:longest]
        hidden = model.transformer(hidden, attn_mask=model.attn_mask[:longest, :longest])  # (captions, longest, width)
        ends = model.ln_final(hidden[torch.arange(len(captions)), lengths - 1])
        return F.normalize(ends @ model.text_projection, dim=-1)

    def write_back(self) -> None:
        """Puts the trained rows into the model's own table."""
        with torch.no_grad():
            self._model.token_embedding.weight[self.ids.astype(int)] = self.table.weight


def contrastive_loss(
    images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, captions: list[list[int]]
) -> torch.Tensor:
    """Symmetric cross-entropy; pictures with the same caption are positives of one another.

    Args:
        images, texts: (batch, d), normalised.
        scale: the inverse temperature.
        captions: tells which captions are equal.
    """
    key = {}
    which = torch.tensor([key.setdefault(tuple(caption), len(key)) for caption in captions])
    target = (which[:, None] == which).float()
    target /= target.sum(1, keepdim=True)
    logits = scale * images @ texts.T
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def learning_rate(step: int, steps: int, warm_up: int = WARM_UP) -> float:
    """Linear warm-up, then half a cosine down to zero, relative to the highest rate."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def train(
    config: dict, seed: int, steps: int, size: int, report: Callable[[dict], None], warm_up: int = WARM_UP
) -> CLIP:
    """Trains from scratch.

    Args:
        config: open_clip's model configuration.
        seed: of the initial weights, the pictures and the captions.
        steps, size: how many batches, and pictures per batch.
        report: called after every step with its row of the log: step, loss, scale, seconds.
        warm_up: see `learning_rate`.
    """
    torch.manual_seed(seed)
    model = tower.build(config).train()
    captions = Captions(model, vocabulary())
    optimisers = _optimisers(model, captions)
    trained = [p for optimiser in optimisers for group in optimiser.param_groups for p in group["params"]]
    schedules = [LambdaLR(optimiser, lambda step: learning_rate(step, steps, warm_up)) for optimiser in optimisers]
    start = time.perf_counter()
    for step in range(steps):
        pictures, texts = corpus.batch(seed, step, size)
        features = model.encode_image(tower.inputs(pictures), normalize=True)
        loss = contrastive_loss(features, captions.encode(texts), model.logit_scale.exp(), texts)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        for stepper in (*optimisers, *schedules):
            stepper.step()
        for optimiser in optimisers:
            optimiser.zero_grad()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        seconds = time.perf_counter() - start
        report({"step": step + 1, "loss": loss.item(), "scale": model.logit_scale.exp().item(), "seconds": seconds})
    captions.write_back()
    return model


def _optimisers(model: CLIP, captions: Captions) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the transformer blocks (a third fewer steps to the same loss), AdamW for all else."""
    model.token_embedding.requires_grad_(False)
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    blocks = [p for name, p in named if p.ndim == 2 and "resblocks" in name]
    others = [p for name, p in named if p.ndim >= 2 and "resblocks" not in name and "embedding" not in name]
    undecayed = [p for name, p in named if p.ndim < 2 or "embedding" in name] + [captions.table.weight]
    groups = [{"params": others}, {"params": undecayed, "weight_decay": 0.0}]
    return [
        torch.optim.AdamW(groups, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98)),
        torch.optim.Muon(blocks, lr=BLOCK_LEARNING_RATE, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
    ]


class TrainingLog:
    """Writes the mean loss of every fifty steps to a csv file.

    Attributes:
        seconds: what the training has taken so far.
    """

    def __init__(self, file: TextIO, steps: int, every: int = 50) -> None:
        self.seconds = 0.0
        self._file, self._steps, self._every, self._losses = file, steps, every, []
        self._write("step", "loss", "scale", "seconds")

    def add(self, row: dict) -> None:
        """Takes a row from `train`."""
        self.seconds = row["seconds"]
        self._losses.append(row["loss"])
        if row["step"] % self._every == 0 or row["step"] == self._steps:
            loss = sum(self._losses) / len(self._losses)
            self._write(row["step"], f"{loss:.4f}", f"{row['scale']:.2f}", f"{self.seconds:.0f}")
            _log.info("step %d of %d: loss %.3f, %.0f s", row["step"], self._steps, loss, self.seconds)
            self._losses.clear()

    def _write(self, *cells: object) -> None:
        csv.writer(self._file, lineterminator="\n").writerow(cells)
        self._file.flush()


def main(arguments: list[str] | None = None) -> None:
    """Trains, writes weights, the log and the figures of merit."""
    parser = argparse.ArgumentParser(description="Pre-train the embedded CLIP on drawn pictures.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--config", type=Path, default=tower.CONFIG, help="open_clip model configuration (json)")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, log and figures")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    config = json.loads(options.config.read_text())
    options.out.mkdir(parents=True, exist_ok=True)

    with (options.out / "embedded_clip_training.csv").open("w", newline="") as file:
        log = TrainingLog(file, options.steps)
        model = train(config, options.seed, options.steps, BATCH, log.add)
    weights = options.out / tower.WEIGHTS.name
    tower.save(model, vocabulary(), weights)
    names = sets.NAMES + tuple(name + sets.VALIDATION for name in sets.NAMES)
    table = evaluate.figures_of_merit(tower.read(weights, options.config), names)
    summary = {"seed": options.seed, "steps": options.steps, "seconds": round(log.seconds), "sets": table}
    (options.out / "embedded_clip_figures.json").write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
