"""The released code's one optimiser, which all clients take turns at (protocol switch `optimizer`)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch

from pfedmoap.client import Batches, Cohort, Trained
from pfedmoap.server import Tensors

WARM_UP = 1e-5  # learning rate of the very first local epoch of a run


def shared_rate(lr: float, epochs: int, period: int) -> float:
    """The prompt's learning rate when all clients together have trained `epochs` local epochs: a cosine of 2 `period`.

    lr (1 + cos(pi (s - 1) / E)) / 2, and 1e-5 at s = 0. The first client of a run trains at s = 0 .. E - 1, the second
    at s = E .. 2E - 1, and so on over the rounds, so that every other client starts where the rate is nearly 0.
    """
    return WARM_UP if epochs == 0 else lr * (1 + math.cos(math.pi * (epochs - 1) / period)) / 2


@dataclass
class SharedOptimizer:
    """One SGD, its momentum buffers and its schedule for all clients of a run.

    Attributes:
        momentum: the buffers, by tensor.
        epochs: s, local epochs of all clients and rounds so far.
    """

    momentum: Tensors = field(default_factory=dict)
    epochs: int = 0

    def train(self, cohort: Cohort, period: int) -> Trained:
        """One client's local update; the gate's learning rate is constant.

        Every method trains like this, CoOp too: the released code has one trainer, whatever it trains, so that CoOp's
        clients do not go on with optimisers of their own. `recipe.schedule` gives way to the shared one.

        Args:
            cohort: of one client.
            period: E, the local epochs of a round.

        Returns:
            The trained client, without momentum, which stays here.
        """
        momentum = {name: self.momentum.get(name, torch.zeros_like(tensor[0]))[None].to(tensor.device)
                    for name, tensor in cohort.start.items()}
        trained, losses, recipe = Trained(cohort.start, momentum, torch.zeros(1)), [], cohort.recipe
        for batches in _by_epoch(cohort.batches, recipe.epochs):
            now = replace(recipe, lr=shared_rate(recipe.lr, self.epochs, period), schedule="constant")
            trained = replace(
                cohort, start=trained.tensors, momentum=trained.momentum, batches=batches, recipe=now).train()
            losses.append(trained.losses)
            self.epochs += 1
        self.momentum |= {name: tensor[0].cpu() for name, tensor in trained.momentum.items()}
        return Trained(trained.tensors, {}, torch.stack(losses).mean(0))


def _by_epoch(batches: Batches, epochs: int) -> Iterator[Batches]:
    """A single client's batches, epoch by epoch, without the factors of another schedule."""
    steps = batches.steps[0] // epochs
    for first in range(0, batches.steps[0], steps):
        at = slice(first, first + steps)
        rates = torch.ones_like(batches.rates[:, at])
        yield Batches(batches.images[:, at], batches.views[:, at], rates, batches.present, (steps,))
