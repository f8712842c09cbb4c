"""Checks of the local update: gradients, learning rates, momentum, weight decay, what stays frozen."""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from pfedmoap.audit.adapter import Adapter, Claims, Step
from pfedmoap.audit.case import Case
from pfedmoap.audit.findings import NOTHING_TRAINED, ONE_STEP, USUAL, Seen, copied, difference, play, trains
from pfedmoap.client import Recipe
from pfedmoap.server import Tensors

NO_SGD = Seen(None, "it does not train by SGD")
AWAY = 1.0  # from where training starts, in every entry: enough for a term that pulls back to be seen
REACH = 0.01  # how far a finite difference reaches
AGREE = 0.01  # of the gradient's length
FLAT = 1e-3  # of the largest gradient's length: what a finite difference cannot tell from 0
SLOW = replace(ONE_STEP, lr=1e-5)  # the gradient is the same all along the way
EPOCHS = 4


def moves(adapter: Adapter, case: Case) -> Seen:
    """One step without momentum and weight decay moves every trained tensor that the loss depends on."""
    if not trains(adapter, case):
        return NOTHING_TRAINED
    step = _away(adapter, case)
    still = [name for name, tensor in step.before.items() if torch.equal(tensor, step.after[name])]
    lengths = {name: gradient.norm().item() for name, gradient in _gradients(step, adapter.claims).items()}
    limit = FLAT * max(lengths.values())
    slopes = {name: max(abs(_slope(adapter, step, name, way)) for way in _ways(step.before[name], None, 3))
              for name in still}
    stuck = [name for name in still if slopes[name] > limit]
    moved = f"{len(lengths) - len(still)} of {len(lengths)} trained tensors move"
    if stuck:
        return Seen(False, f"{moved}; the loss depends on {', '.join(stuck)}, which does not", slopes)
    idle = f"; the loss does not depend on {', '.join(still)}" if still else ""
    return Seen(max(lengths.values()) > 0, moved + idle, lengths)


def gradients(adapter: Adapter, case: Case) -> Seen:
    """A step goes down the gradient of the whole loss, each of its terms included: finite differences agree."""
    if not adapter.claims.sgd:
        return NO_SGD
    if not trains(adapter, case):
        return NOTHING_TRAINED
    step = _away(adapter, case)
    measured = _gradients(step, adapter.claims)
    largest = max(gradient.norm().item() for gradient in measured.values())
    off = {}
    for name, gradient in measured.items():
        if gradient.norm() > FLAT * largest:
            off[name] = max(abs(_slope(adapter, step, name, way) - (way * gradient).sum().item())
                            for way in _ways(step.before[name], gradient, 2)) / gradient.norm().item()
    worst = max(off, key=off.__getitem__, default="")
    if not off:
        return Seen(False, "no step moves anything")
    words = f"off by {off[worst]:.1%} of its length at most ({worst})"
    return Seen(off[worst] <= AGREE, f"the step is the loss's gradient: {words}" if off[worst] <= AGREE else
                f"the step is not the gradient of the loss that is reported: {words}", off)


def frozen(adapter: Adapter, case: Case) -> Seen:
    """The frozen CLIP, what was received and what others have sent stay as they are while a client trains."""
    if not trains(adapter, case):
        return NOTHING_TRAINED
    adapter.start(case)
    clip = case.clip.model.state_dict()
    before, changed = copied(clip), dict[str, float]()
    sent: dict[int, Tensors] = {}
    for _ in range(2):
        kept = {client: copied(upload) for client, upload in sent.items()}
        received = {client: adapter.local_step(client, USUAL) for client in range(case.clients)}
        again = {client: copied(step.received) for client, step in received.items()}
        for client in range(case.clients):
            adapter.local_step(client, USUAL)
            changed["received"] = max(changed.get("received", 0), difference(received[client].received, again[client]))
        changed["sent"] = max([changed.get("sent", 0), *(difference(sent[one], kept[one]) for one in sent)])
        sent = {client: adapter.upload(client) for client in range(case.clients)}
        adapter.aggregate(sent)
    changed["CLIP"] = difference(clip, before)
    case.clip.model.load_state_dict(before)
    wrong = [name for name, apart in changed.items() if apart]
    return Seen(not wrong, f"changed while clients trained: {', '.join(wrong)}" if wrong else
                "CLIP, received tensors and earlier uploads are as they were", changed)


def learning_rate(adapter: Adapter, case: Case) -> Seen:
    """The learning rate follows the recipe's schedule, which restarts with every round or goes on, as claimed."""
    recipes = {schedule: replace(SLOW, epochs=EPOCHS, schedule=schedule) for schedule in ("constant", "cosine")}
    return _as_far_as_claimed(adapter, case, recipes, "learning rate")


def momentum(adapter: Adapter, case: Case) -> Seen:
    """Momentum is the recipe's, and is forgotten after a round or kept, as claimed."""
    return _as_far_as_claimed(adapter, case, {"0.9": replace(SLOW, epochs=EPOCHS, momentum=0.9)}, "momentum")


def weight_decay(adapter: Adapter, case: Case) -> Seen:
    """Weight decay is the recipe's: what it adds to a step is the learning rate times it times the tensor."""
    claims, decay = adapter.claims, 2.0
    if not claims.sgd:
        return NO_SGD
    if not trains(adapter, case):
        return NOTHING_TRAINED
    step = _away(adapter, case)
    decayed = adapter.local_step(0, replace(ONE_STEP, weight_decay=decay), step.before)
    off = {}
    for name, tensor in step.before.items():
        more = (step.after[name] - decayed.after[name]).double() / _rate(name, claims, ONE_STEP)
        off[name] = ((more - decay * tensor).norm() / (decay * tensor).norm().clamp_min(1e-9)).item()
    worst = max(off, key=off.__getitem__)
    return Seen(off[worst] <= AGREE, f"off by {off[worst]:.1%} of it at most ({worst})", off)


def _away(adapter: Adapter, case: Case) -> Step:
    """One step of client 0 in round 2, from somewhere near to where it starts, so that no term of the loss is 0."""
    play(adapter, case, 1, ONE_STEP)
    begun, noise = adapter.local_step(0, ONE_STEP), torch.Generator().manual_seed(1)
    before = {name: tensor.float() + AWAY * torch.randn(tensor.shape, generator=noise)
              for name, tensor in begun.before.items()}
    return adapter.local_step(0, ONE_STEP, before)


def _gradients(step: Step, claims: Claims) -> Tensors:
    return {name: (tensor - step.after[name]).float() / _rate(name, claims, ONE_STEP)
            for name, tensor in step.before.items()}


def _rate(name: str, claims: Claims, recipe: Recipe) -> float:
    return next((rate for prefix, rate in claims.own_rates.items() if name.startswith(prefix)), recipe.lr)


def _slope(adapter: Adapter, step: Step, name: str, way: Tensor) -> float:
    """Finite difference of the loss along a direction of length 1 of one trained tensor."""
    ahead, behind = (adapter.local_step(0, ONE_STEP, step.before | {name: step.before[name] + sign * REACH * way}).loss
                     for sign in (1, -1))
    return (ahead - behind) / (2 * REACH)


def _ways(like: Tensor, gradient: Tensor | None, count: int) -> Iterator[Tensor]:
    """Directions of length 1: random ones, half of each the gradient if there is one."""
    noise = torch.Generator().manual_seed(2)
    for _ in range(count):
        way = torch.randn(like.shape, generator=noise)
        way = way / way.norm()
        if gradient is not None:
            way = way + gradient / gradient.norm()
        yield way / way.norm()


def _as_far_as_claimed(adapter: Adapter, case: Case, recipes: dict[str, Recipe], what: str) -> Seen:
    """Compares how far a client gets in rounds 1 and 2, in steps of one full learning rate, with what is claimed."""
    if not adapter.claims.sgd:
        return NO_SGD
    if not trains(adapter, case):
        return NOTHING_TRAINED
    goes_on = adapter.claims.optimizer == "continues"
    lines, numbers, holds = [], dict[str, list[float]](), True
    for label, recipe in recipes.items():
        got = [_steps_travelled(adapter, case, recipe, round) for round in (1, 2)]
        due = _steps_due(recipe, goes_on, case.rounds)
        holds &= all(abs(one - two) <= 0.05 * two for one, two in zip(got, due, strict=True))
        lines.append(f"{label}: {got[0]:.2f}, {got[1]:.2f} (claimed {due[0]:.2f}, {due[1]:.2f})")
        numbers |= {label: got, f"{label}, claimed": due}
    return Seen(holds, f"steps' worth of {what} in rounds 1 and 2: {'; '.join(lines)}", numbers)


def _steps_travelled(adapter: Adapter, case: Case, recipe: Recipe, round: int) -> float:
    """Of client 0 in a round, along what a single step of a fresh optimiser moves."""
    def way(last: Recipe) -> Tensor:
        play(adapter, case, round - 1, recipe)
        step = adapter.local_step(0, last)
        own = [name for name in step.before if _rate(name, adapter.claims, recipe) == recipe.lr]
        return torch.cat([(step.before[name] - step.after[name]).flatten().double() for name in own])

    unit, whole = way(SLOW), way(recipe)
    return (whole @ unit / (unit @ unit)).item() if unit.any() else 0.0


def _steps_due(recipe: Recipe, goes_on: bool, rounds: int) -> list[float]:
    """What the recipe asks for in rounds 1 and 2: the learning rates' factors, summed with momentum."""
    speed, travelled = 0.0, [0.0, 0.0]
    for epoch in range(2 * recipe.epochs):
        if epoch % recipe.epochs == 0 and not goes_on:
            speed = 0.0
        at, length = (epoch, rounds * recipe.epochs) if goes_on else (epoch % recipe.epochs, recipe.epochs)
        factor = (1 + math.cos(math.pi * at / length)) / 2 if recipe.schedule == "cosine" else 1.0
        speed = recipe.momentum * speed + 1
        travelled[epoch // recipe.epochs] += factor * speed
    return travelled
