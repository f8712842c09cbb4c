"""Differential privacy of uploads: clipped gradients, Gaussian noise calibrated by a library (Table 5, SPEC 7).

Protected: what the server and the other clients can tell about a client's training images from the prompts that it
uploads, each upload by itself ("upload") or all of them together ("total"). Not protected by noise, because they never
leave the client: its gate, its own prompt, what it predicts. Experts are other clients' noisy prompts, which every
borrower sees in full.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pfedmoap.errors import require
from pfedmoap.randomness import generator
from pfedmoap.server import Tensors


@dataclass(frozen=True)
class Privacy:
    """(epsilon, delta)-differential privacy of a client's uploads.

    Attributes:
        epsilon: privacy loss; infinity leaves only the clipping.
        delta: failure probability (0.05 in the paper).
        clip: C, bound on the l2 norm of a step's gradient of what is uploaded (the paper gives none; 1).
        accounting: "upload": the guarantee holds for every single upload; "total": for all uploads of a run.
        tested: "own": clients are tested with their un-noised prompt; "uploaded": with what they sent.
    """

    epsilon: float
    delta: float = 0.05
    clip: float = 1.0
    accounting: str = "upload"
    tested: str = "own"

    def __post_init__(self):
        require(self, {
            "epsilon": (self.epsilon > 0, "a number > 0 (inf: clipping only)"),
            "delta": (0 < self.delta < 1, "a number > 0 and < 1"),
            "clip": (self.clip > 0, "a number > 0"),
            "accounting": (self.accounting in ("upload", "total"), "'upload' or 'total'"),
            "tested": (self.tested in ("own", "uploaded"), "'own' or 'uploaded'"),
        }, "Privacy's ")

    def sigma(self, sensitivity: float, uploads: int) -> float:
        """Standard deviation of the noise on each number of an upload.

        Args:
            sensitivity: how far two runs that differ in one image can end apart, in l2 (`sensitivity`).
            uploads: how many uploads a client makes at most in the run.
        """
        import dp_accounting  # takes more than a second, which runs without privacy need not wait for

        count = uploads if self.accounting == "total" else 1  # as one of sqrt(count) times the reach
        return sensitivity * count**0.5 * dp_accounting.get_sigma_gaussian(self.epsilon, self.delta)


def sensitivity(steps: int, lr: float, clip: float, momentum: float) -> float:
    """2 C lr sum_{k=1..n} (1 - mu^k) / (1 - mu): SGD with momentum mu carries a step's gradient into the later ones."""
    return 2 * clip * lr * sum((1 - momentum**k) / (1 - momentum) for k in range(1, steps + 1))


def clip_gradients(gradients: Tensors, sent: set[str], bound: float) -> Tensors:
    """Scales the gradient of what is uploaded to a norm of at most `bound`, per client; the rest is left alone.

    Args:
        gradients: each (clients, ...).
        sent: names of the tensors that are uploaded.
    """
    if not sent:  # as with CoOp: what never leaves the client needs no protection
        return gradients
    squares = [gradients[name].flatten(1).square().sum(1) for name in sorted(sent)]  # each (clients,)
    scale = (bound / torch.stack(squares).sum(0).sqrt().clamp_min(1e-12)).clamp_max(1.0)
    return {name: gradient * scale.view(-1, *[1] * (gradient.dim() - 1)) if name in sent else gradient
            for name, gradient in gradients.items()}


def add_noise(upload: Tensors, sigma: float, seed: int, round: int, client: int) -> Tensors:
    """The upload with N(0, sigma^2) on every number, from (seed, round, client)."""
    def noisy(name: str, tensor: Tensor) -> Tensor:
        draw = generator(seed, "privacy", round, client, name).standard_normal(tuple(tensor.shape))
        return tensor + sigma * torch.from_numpy(draw).to(tensor)

    return {name: noisy(name, tensor) for name, tensor in upload.items()}
