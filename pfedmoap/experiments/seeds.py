"""Runs that differ in nothing but their seed, side by side: their cohorts train as one batch.

A GPU takes hardly longer for three small cohorts than for one. The steps of a round are the plain loop's
(`federation.Federation.run_round`), each taken by all runs before the next.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pfedmoap.client import Batches, Cohort, FederatedData, Trained
from pfedmoap.errors import PfedmoapError
from pfedmoap.federation import Federation, Round
from pfedmoap.server import Tensors

T = TypeVar("T")


def rounds_of(federations: Sequence[Federation]) -> Iterator[tuple[int, Round]]:
    """Runs the remaining rounds of federations that differ in nothing but their seed.

    Those that are behind, after an interruption, catch up first.

    Yields:
        A federation's place and its round, once that is complete.
    """
    if len({id(run.data.train_features) for run in federations}) > 1:
        for run, data in zip(federations, in_one_table([run.data for run in federations]), strict=True):
            run.data = data
    while missing := [run for run in federations if len(run.history) < run.plan.rounds]:
        done = min(len(run.history) for run in missing)
        now = [place for place, run in enumerate(federations) if len(run.history) == done]
        yield from zip(now, _run_round([federations[place] for place in now]), strict=True)


def _run_round(federations: Sequence[Federation]) -> list[Round]:
    """The next round of each; they share its seconds."""
    if len(federations) == 1:
        return [federations[0].run_round()]
    started, number = time.perf_counter(), len(federations[0].history) + 1
    results = [Round(number, run.sample(number)) for run in federations]
    downloads = [run.downloads(result.selected) for run, result in zip(federations, results, strict=True)]
    updates = train_together(
        federations, [run.cohorts(lent, number) for run, lent in zip(federations, downloads, strict=True)],
        [lambda cohort, trained, run=run: run.upload(cohort, trained, number) for run in federations])
    for run, result, lent, trained in zip(federations, results, downloads, updates, strict=True):
        uploads = run.collect(result, lent, trained)
        run.cache(uploads)
        run.average(uploads)
    if federations[0].fine_tunes(number):
        train_together(
            federations, [run.cohorts(run.final_downloads(result), number + 1, run.final_recipe)
                          for run, result in zip(federations, results, strict=True)],
            [lambda cohort, trained, run=run: run.keep_final(cohort, trained, number + 1) for run in federations])
    seconds = (time.perf_counter() - started) / len(federations)
    for run, result in zip(federations, results, strict=True):
        run.test(result, seconds)
    return results


def in_one_table(runs: Sequence[FederatedData]) -> list[FederatedData]:
    """The same federations on one table of all their training images, so that their clients can train as one batch.

    Test images stay where they are.
    """
    features = torch.cat([data.train_features for data in runs], dim=1)  # (V, sum of n, d)
    labels = torch.cat([data.train_labels for data in runs])  # (sum of n,)
    plain = None if runs[0].plain_features is None else torch.cat([data.plain_features for data in runs])
    joined, first = [], 0
    for data in runs:
        rows = [first + indices for indices in data.train_rows]
        joined.append(replace(data, train_features=features, train_labels=labels, train_rows=rows,
                              plain_features=plain))
        first += len(data.train_labels)
    return joined


def train_together(
    federations: Sequence[Federation],
    cohorts: Sequence[Iterator[Cohort]],
    finish: Sequence[Callable[[Cohort, Trained], list[T]]],
) -> list[list[T]]:
    """Trains cohorts of one kind as one batch.

    Kinds come in one order. A cohort waits until no run has one of an earlier kind. So clients with a gate meet those
    of the other runs, even if one of the runs has no clients without.

    Args:
        cohorts: of each federation; the next one is asked for when the last one is finished.
        finish: of each federation, what becomes of a trained cohort.

    Returns:
        What `finish` returned, for each federation.
    """
    done: list[list[T]] = [[] for _ in federations]
    waiting = {run: cohort for run, ready in enumerate(cohorts) if (cohort := next(ready, None)) is not None}
    while waiting:
        chosen = _next(waiting, federations)
        group = [waiting.pop(run) for run in chosen]
        trained = [federations[chosen[0]].train_cohort(group[0])] if len(group) == 1 else train_as_one(group)
        for run, cohort, result in zip(chosen, group, trained, strict=True):
            done[run] += finish[run](cohort, result)
            if (cohort := next(cohorts[run], None)) is not None:
                waiting[run] = cohort
    return done


def _next(waiting: dict[int, Cohort], federations: Sequence[Federation]) -> list[int]:
    """Whose cohorts are trained next: all of the first kind, or as many as may train at once."""
    run = min(waiting)
    if type(federations[run]).train_cohort is not Federation.train_cohort:  # it trains its cohorts in a way of its own
        return [run]
    kinds = {run: kind(cohort) for run, cohort in waiting.items()}
    first, chosen, clients = min(kinds.values()), [], 0
    for run in (run for run, its_kind in kinds.items() if its_kind == first):
        clients += len(waiting[run])
        if chosen and clients > federations[0].cohort_size:
            break
        chosen.append(run)
    return chosen


def kind(cohort: Cohort) -> tuple:
    """The same for cohorts that can train as one, and sorted: a run's cohorts come in ascending order of it."""
    tensors = [tuple((name, tuple(tensor.shape[1:])) for name, tensor in group.items())
               for group in (cohort.start, cohort.fixed, cohort.momentum or {})]
    return (*tensors, repr(cohort.method), repr(cohort.recipe), cohort.context.text.encoder.class_names,
            id(cohort.features), id(cohort.labels))


def train_as_one(cohorts: Sequence[Cohort]) -> list[Trained]:
    """Trains cohorts of one kind in a single local update."""
    steps = [count for cohort in cohorts for count in cohort.batches.steps]
    order = sorted(range(len(steps)), key=lambda client: -steps[client])  # clients with more steps first
    by_steps = torch.tensor(order, device=cohorts[0].labels.device)

    def joined(parts: Sequence[Tensors]) -> Tensors:
        whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        for name, tensor in whole.items():
            if len(tensor) != len(steps):
                raise PfedmoapError(f"{cohorts[0].method.title}'s {name!r} has {len(tensor)} rows for {len(steps)} "
                                    f"clients of {len(cohorts)} runs: give it a row per client.")
        return {name: tensor[by_steps] for name, tensor in whole.items()}

    trained = replace(
        cohorts[0],
        clients=tuple(client for cohort in cohorts for client in cohort.clients),  # of one run or another
        start=joined([cohort.start for cohort in cohorts]),
        fixed=joined([cohort.fixed for cohort in cohorts]),
        momentum=None if cohorts[0].momentum is None else joined([cohort.momentum for cohort in cohorts]),
        batches=_joined_batches([cohort.batches for cohort in cohorts], order),
        context=cohorts[0].context.common).train()
    places, results = by_steps.argsort().split([len(cohort) for cohort in cohorts]), []
    for rows in places:
        tensors, momentum = ({name: tensor[rows] for name, tensor in group.items()}
                             for group in (trained.tensors, trained.momentum))
        results.append(Trained(tensors, momentum, trained.losses[rows]))
    return results


def _joined_batches(cohorts: Sequence[Batches], order: Sequence[int]) -> Batches:
    """All clients of the cohorts in a new order, with padding as it is needed now."""
    steps = [count for batches in cohorts for count in batches.steps]
    width = max(batches.images.shape[2] for batches in cohorts)
    longest = max(steps)

    def padded(name: str, to: tuple[int, ...]) -> Tensor:
        tensors = []
        for batches in cohorts:
            tensor = getattr(batches, name)
            missing = [size - length for size, length in zip(reversed(to), reversed(tensor.shape[1:]), strict=True)]
            tensors.append(F.pad(tensor, [side for count in missing for side in (0, count)]))
        return torch.cat(tensors)[list(order)]

    return Batches(
        padded("images", (longest, width)), padded("views", (longest,)), padded("rates", (longest,)),
        padded("present", (width,)), tuple(steps[client] for client in order))
