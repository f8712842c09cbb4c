"""Cohorts that wait for their training, and cohorts of several runs that train as one.

A federation hands over each cohort and gets it back trained (`Training`). A run alone has its cohorts trained one after
the other; of runs that differ in nothing but their seed those that are alike are trained as one batch, as a GPU takes
hardly longer for three small cohorts than for one.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pfedmoap.client import Batches, Recipe, Trained, local_update
from pfedmoap.errors import PfedmoapError
from pfedmoap.methods.base import Common, Context, Method
from pfedmoap.server import Tensors

T = TypeVar("T")


@dataclass(frozen=True)
class Cohort:
    """Clients that are ready for their local update: the arguments of `client.local_update`."""

    method: Method
    start: Tensors
    fixed: Tensors
    batches: Batches
    features: Tensor
    labels: Tensor
    recipe: Recipe
    context: Context | Common
    momentum: Tensors | None = None

    def __len__(self) -> int:
        return len(self.batches.steps)

    @property
    def kind(self) -> tuple:
        """The same for cohorts that can train as one, and sorted: a run's cohorts come in ascending order of it."""
        tensors = [tuple((name, tuple(tensor.shape[1:])) for name, tensor in own.items())
                   for own in (self.start, self.fixed, self.momentum or {})]
        return (*tensors, repr(self.method), repr(self.recipe), self.context.text.encoder.class_names,
                id(self.features), id(self.labels))

    def train(self) -> Trained:
        return local_update(self.method, self.start, self.fixed, self.batches, self.features, self.labels, self.recipe,
                            self.context, self.momentum)


Training = Generator[Cohort, Trained, T]


def alone(training: Training[T]) -> T:
    """Trains every cohort by itself."""
    return together([training], most=1)[0]


def together(trainings: Sequence[Training[T]], most: int) -> list[T]:
    """Trains cohorts of one kind as one batch.

    Cohorts of a later kind wait until nobody has one of an earlier kind any more, so that clients with a gate, say,
    meet those of the other runs even where a run has no clients without.

    Args:
        most: clients that train at once, if there are several cohorts.
    """
    results: dict[int, T] = {}
    waiting: dict[int, Cohort] = {}

    def go_on(run: int, trained: Trained | None) -> None:
        try:
            waiting[run] = trainings[run].send(trained)
        except StopIteration as end:
            results[run] = end.value

    for run in range(len(trainings)):
        go_on(run, None)
    while waiting:
        chosen = _next(waiting, most)
        for run, trained in zip(chosen, train_as_one([waiting.pop(run) for run in chosen]), strict=True):
            go_on(run, trained)
    return [results[run] for run in range(len(trainings))]


def _next(waiting: dict[int, Cohort], most: int) -> list[int]:
    """Whose cohorts are trained next: all of the first kind, or as many as may train at once."""
    if len(waiting) == 1:
        return list(waiting)
    kinds = {run: cohort.kind for run, cohort in waiting.items()}
    first, chosen, clients = min(kinds.values()), [], 0
    for run in (run for run, kind in kinds.items() if kind == first):
        clients += len(waiting[run])
        if chosen and clients > most:
            break
        chosen.append(run)
    return chosen


def train_as_one(cohorts: Sequence[Cohort]) -> list[Trained]:
    """Trains cohorts of one kind in a single local update."""
    if len(cohorts) == 1:
        return [cohorts[0].train()]
    steps = [own for cohort in cohorts for own in cohort.batches.steps]
    order = sorted(range(len(steps)), key=lambda client: -steps[client])  # clients with more steps first
    device = cohorts[0].labels.device
    by_steps = torch.tensor(order, device=device)

    def joined(parts: Sequence[Tensors]) -> Tensors:
        whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        for name, tensor in whole.items():
            if len(tensor) != len(steps):
                raise PfedmoapError(f"{cohorts[0].method.title}'s {name!r} has {len(tensor)} rows for {len(steps)} "
                                    f"clients of {len(cohorts)} runs: give it a row per client.")
        return {name: tensor[by_steps] for name, tensor in whole.items()}

    momentum = None if cohorts[0].momentum is None else joined([cohort.momentum for cohort in cohorts])
    trained = replace(
        cohorts[0], start=joined([cohort.start for cohort in cohorts]),
        fixed=joined([cohort.fixed for cohort in cohorts]), momentum=momentum,
        batches=_joined_batches([cohort.batches for cohort in cohorts], order),
        context=cohorts[0].context.common).train()
    places, results = by_steps.argsort().split([len(cohort) for cohort in cohorts]), []
    for own in places:
        tensors, momentum = ({name: tensor[own] for name, tensor in part.items()}
                             for part in (trained.tensors, trained.momentum))
        results.append(Trained(tensors, momentum, trained.losses[own]))
    return results


def _joined_batches(parts: Sequence[Batches], order: Sequence[int]) -> Batches:
    """All clients of the parts in a new order, with padding as it is needed now."""
    steps = [own for part in parts for own in part.steps]
    width = max(part.images.shape[2] for part in parts)
    longest = max(steps)

    def padded(name: str, to: tuple[int, ...]) -> Tensor:
        tensors = []
        for part in parts:
            tensor = getattr(part, name)
            missing = [size - own for size, own in zip(reversed(to), reversed(tensor.shape[1:]), strict=True)]
            tensors.append(F.pad(tensor, [side for own in missing for side in (0, own)]))
        return torch.cat(tensors)[list(order)]

    return Batches(
        padded("images", (longest, width)), padded("views", (longest,)), padded("rates", (longest,)),
        padded("present", (width,)), tuple(steps[client] for client in order))
