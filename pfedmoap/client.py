"""The local update of a cohort of clients (algorithm 1, ClientUpdate).

One client or a hundred, the same code: every trained tensor has a leading `clients` axis, and the loss is the sum over
clients of each one's own, so that each client's gradient is its own.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pfedmoap import graphs
from pfedmoap.method import Common, Method
from pfedmoap.privacy import clip_gradients
from pfedmoap.randomness import generator
from pfedmoap.server import Tensors


@dataclass(frozen=True)
class FederatedData:
    """Image features of a whole data set, and which rows each client owns.

    Attributes:
        train_features: (V, n, d) with V augmented views; (V, n, M, d) for methods that need the spatial map, and
            then in fp16 on a GPU.
        train_labels: (n,); test_labels: (n',), int64.
        test_features: (n', d) or (n', M, d).
        train_rows, test_rows: one int64 array per client.
        plain_features: (n, d) or (n, M, d), the training images as they are tested, without augmentation.
    """

    train_features: Tensor
    train_labels: Tensor
    test_features: Tensor
    test_labels: Tensor
    train_rows: Sequence[np.ndarray]
    test_rows: Sequence[np.ndarray]
    plain_features: Tensor | None = None

    @property
    def clients(self) -> int:
        return len(self.train_rows)


@dataclass(frozen=True)
class Recipe:
    """How a client trains.

    Attributes:
        epochs: local epochs of one update.
        batch_size: images per step.
        lr, momentum, weight_decay: of SGD.
        schedule: of the learning rate: "constant", or "cosine" over the epochs.
        clip: bound on the norm of the gradient of what is uploaded, for differential privacy; None: no clipping.
    """

    epochs: int
    batch_size: int
    lr: float
    momentum: float
    weight_decay: float
    schedule: str = "constant"
    clip: float | None = None


@dataclass(frozen=True)
class Batches:
    """All batches of a cohort's local update, clients with more steps first.

    Attributes:
        images: (clients, steps, B) int64 rows of the training features.
        views: (clients, steps) int64, which augmented view of them.
        rates: (clients, steps) float, the schedule's factor on the learning rates.
        present: (clients, B) bool; False is padding (a client with fewer images than B has one smaller batch).
        steps: steps of each client; descending.
    """

    images: Tensor
    views: Tensor
    rates: Tensor
    present: Tensor
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Trained:
    """A cohort after its local update: final tensors, momentum buffers, and each client's mean training loss."""

    tensors: Tensors
    momentum: Tensors
    losses: Tensor


@dataclass(frozen=True)
class Cohort:
    """Clients that are ready for their local update together: their ids, and the arguments of `local_update`."""

    clients: tuple[int, ...]
    method: Method
    start: Tensors
    fixed: Tensors
    batches: Batches
    features: Tensor
    labels: Tensor
    recipe: Recipe
    context: Common
    momentum: Tensors | None = None

    def __len__(self) -> int:
        return len(self.clients)

    def train(self) -> Trained:
        return local_update(self.method, self.start, self.fixed, self.batches, self.features, self.labels, self.recipe,
                            self.context, self.momentum)


def count_steps(images: int, recipe: Recipe) -> int:
    """Steps of one local update; the last incomplete batch is dropped when there are enough images for a full one."""
    return recipe.epochs * max(1, images // recipe.batch_size)


def draw_batches(
    clients: Sequence[int],
    shards: Sequence[np.ndarray],
    recipe: Recipe,
    *,
    seed: int,
    round: int,
    past_epochs: Sequence[int],
    views: int,
    total_epochs: int | None = None,
) -> Batches:
    """Shuffles every client's images for every epoch, from (seed, round, client, epoch) alone.

    Args:
        clients: ids, in descending order of steps.
        shards: each client's rows of the training features.
        past_epochs: local epochs that each client has behind it; they choose the augmented view.
        views: V; the view of an epoch is its running number modulo V.
        total_epochs: length of the schedule where it goes on over the rounds; None: it restarts in every round.
    """
    steps = [count_steps(len(shard), recipe) for shard in shards]
    width = min(recipe.batch_size, max(map(len, shards)))
    images = np.zeros((len(clients), max(steps), width), dtype=np.int64)
    epochs = np.zeros((len(clients), max(steps)), dtype=np.int64)  # running epoch of every step
    present = np.zeros((len(clients), width), dtype=bool)
    for row, (client, shard) in enumerate(zip(clients, shards, strict=True)):
        size = min(recipe.batch_size, len(shard))
        per_epoch = len(shard) // size
        present[row, :size] = True
        for epoch in range(recipe.epochs):
            order = generator(seed, "batches", round, client, epoch).permutation(shard)[: per_epoch * size]
            at = slice(epoch * per_epoch, (epoch + 1) * per_epoch)
            images[row, at, :size] = order.reshape(per_epoch, size)
            epochs[row, at] = past_epochs[row] + epoch
    in_schedule = epochs if total_epochs else epochs - np.array(past_epochs)[:, None]
    rates = np.ones(epochs.shape)
    if recipe.schedule == "cosine":
        rates = (1 + np.cos(math.pi * in_schedule / (total_epochs or recipe.epochs))) / 2
    return Batches(
        torch.from_numpy(images), torch.from_numpy(epochs % views), torch.from_numpy(rates).float(),
        torch.from_numpy(present), tuple(steps))


def local_update(
    method: Method,
    start: Tensors,
    fixed: Tensors,
    batches: Batches,
    features: Tensor,
    labels: Tensor,
    recipe: Recipe,
    context: Common,
    momentum: Tensors | None = None,
) -> Trained:
    """Trains a cohort: E epochs of SGD from each client's own start.

    Clients that have run out of batches leave the cohort: nothing of theirs moves any more, neither by momentum nor
    by weight decay.

    What is trained keeps the dtype of `start`: parameters, gradients and momentum are rounded to it wherever torch
    would store them, without loss scaling. What is computed between parameters and gradients is in fp32.

    Args:
        start: trained tensors, each (clients, ...); not modified.
        fixed: the method's frozen tensors, each (clients, ...).
        features: (V, n, d) image features of the training split; labels: (n,).
        momentum: buffers to go on from; None: a fresh optimiser.
    """
    device = labels.device
    images, views, present = batches.images.to(device), batches.views.to(device), batches.present.to(device)
    rates = batches.rates.to(device)
    tensors = {name: tensor.clone() for name, tensor in start.items()}
    buffers = {name: torch.zeros_like(tensor) if momentum is None else momentum[name].clone()
               for name, tensor in start.items()}
    losses = torch.zeros(len(batches.steps), device=device)  # (clients,)
    number = torch.zeros(1, dtype=torch.int64, device=device)  # of the step, known to a GPU that repeats it by itself

    steps = torch.tensor(batches.steps, device=device)  # (clients,)

    def step(active: int, some_are_done: bool) -> None:
        leaves = {name: tensor[:active].detach().requires_grad_() for name, tensor in tensors.items()}
        model = {name: leaf.float() for name, leaf in leaves.items()}
        rows, view = (of[:active].index_select(1, number) for of in (images, views))  # (active, 1, B), (active, 1)
        loss = method.loss(
            model, {name: tensor[:active] for name, tensor in fixed.items()},
            features[view, rows[:, 0]].float(), labels[rows[:, 0]], present[:active], context)  # (active,)
        gradients = dict(zip(leaves, torch.autograd.grad(loss.sum(), list(leaves.values())), strict=True))
        training = number < steps[:active] if some_are_done else None  # (active,)
        losses[:active] += loss.detach() if training is None else loss.detach().where(training, 0)
        if recipe.clip is not None:
            gradients = clip_gradients(gradients, set(method.upload(model)), recipe.clip)
        for name, gradient in gradients.items():
            rate = rates[:active].index_select(1, number).squeeze(1) * method.learning_rate(name, recipe.lr)
            _sgd_step(tensors[name][:active], buffers[name][:active], gradient, rate, recipe, training)
        number.add_(1)

    state = [*tensors.values(), *buffers.values(), losses, number]
    capture = None if method.waits else graphs.capture_for(device)
    for active, times, some_are_done in _stretches(batches.steps, least=1 if capture is None else graphs.PAYS):
        graphs.repeat(partial(step, active, some_are_done), times, state, capture)
    return Trained(tensors, buffers, losses / steps)


def _stretches(steps: Sequence[int], least: int) -> Iterator[tuple[int, int, bool]]:
    """Cuts an update into stretches: clients in the batch, steps, and whether some clients are done before its end.

    Clients with 5, 4 and 4 steps give (3, 4, False) and (1, 1, False). A GPU repeats only what is always the same, so
    no stretch is shorter than `least` while so many steps are left. Clients that are done then stay in the batch, and
    nothing of theirs moves.
    """
    done = 0
    while done < steps[0]:
        active = sum(count > done for count in steps)
        until = max(steps[active - 1], min(done + least, steps[0]))
        yield active, until - done, steps[active - 1] < until
        done = until


def _sgd_step(
    tensor: Tensor, buffer: Tensor, gradient: Tensor, rate: Tensor, recipe: Recipe, training: Tensor | None
) -> None:
    """torch.optim.SGD's step in place, with a learning rate per client: (clients, ...), rate (clients,).

    Args:
        training: (clients,) bool, False for those of whom nothing moves; None: everyone trains.
    """
    per_client = (-1, *[1] * (tensor.dim() - 1))
    # In fp16 one rounding, as on a GPU: on a CPU torch would round the weight decay itself.
    gradient = gradient.float().add(tensor.float(), alpha=recipe.weight_decay).to(tensor.dtype)
    moved = buffer * recipe.momentum + gradient  # a zero buffer makes the first step torch's
    step = rate.view(per_client) * moved
    if training is None:
        buffer.copy_(moved)
        tensor.sub_(step)
    else:
        trains = training.view(per_client)
        buffer.copy_(moved.where(trains, buffer))
        tensor.sub_(step.where(trains, 0))
