"""Repeated steps, with captures that are faithful, wrong, or impossible; a real capture needs a GPU (test_device)."""

from dataclasses import replace

import pytest
import torch
from test_client import MOAP, RECIPE, update
from tiny import make_data

from pfedmoap import graphs
from pfedmoap.client import _stretches
from pfedmoap.methods import CoOp


class Counting:
    """x <- 2 x + step number; how often it was launched and replayed."""

    def __init__(self):
        self.x, self.number = torch.ones(3), torch.zeros(1)
        self.launched = self.replayed = 0
        self.short = False
        self.broken = 0

    def step(self):
        self.launched += 1
        if self.short:
            self.short = False
            self.x.zero_()  # half done
            raise torch.OutOfMemoryError("CUDA out of memory")
        self._do(2.0)

    def _do(self, factor):
        self.x.mul_(factor).add_(self.number)
        self.number.add_(1)

    def faithful(self, step):
        def replay():
            self.replayed += 1
            self._do(2.0)
        return replay

    def wrong(self, step):
        def replay():
            self.replayed += 1
            self._do(2.1)
        return replay

    def impossible(self, step):
        raise RuntimeError("operation not permitted when stream is capturing")

    def broken_off(self, step):
        self.broken += 1
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:
            raise RuntimeError("the capture was invalidated")

    def out_of_memory(self, step):
        self.short = True
        return self.step


@pytest.mark.parametrize("times", [0, 1, graphs.PAYS - 1, graphs.PAYS, 30])
@pytest.mark.parametrize("capture", [None, "faithful", "wrong", "impossible", "out of memory"])
def test_every_way_takes_the_same_steps(times, capture):
    plain, ours = Counting(), Counting()
    for _ in range(times):
        plain.step()
    graphs.repeat(ours.step, times, [ours.x, ours.number], capture and getattr(ours, capture.replace(" ", "_")))
    torch.testing.assert_close((ours.x, ours.number), (plain.x, plain.number), rtol=0, atol=0)
    if capture is None or times < graphs.PAYS:
        assert (ours.launched, ours.replayed) == (times, 0)
    else:  # a check takes a step of each kind, and takes them back
        assert (ours.launched, ours.replayed) == {
            "faithful": (graphs.WARM_UP + 1, times - graphs.WARM_UP + 1), "wrong": (times + 1, 1),
            "impossible": (times, 0), "out of memory": (times + 1, 0)}[capture]


def test_what_failed_once_is_not_tried_again():
    ours = Counting()
    for _ in range(2):
        graphs.repeat(ours.step, 20, [ours.x, ours.number], ours.wrong)
    assert (ours.launched, ours.replayed) == (41, 1)


def test_a_replay_that_leaves_out_a_short_way_is_not_believed():
    """Beside a tensor of ones a step of 1e-5 is nothing, but a replay has to take it."""
    x, number = torch.ones(100), torch.zeros(1)

    def step():
        x.add_(1e-5)
        number.add_(1)

    graphs.repeat(step, 20, [x, number], lambda step: lambda: number.add_(1))
    assert number == 20 and torch.allclose(x, torch.tensor(1 + 20e-5), rtol=1e-6)


def test_a_local_update_is_the_same_if_its_steps_are_replayed(context, monkeypatch):
    """Clients leave the cohort one after the other: every stretch is captured by itself."""
    recipe, data = replace(RECIPE, epochs=15), make_data(train_sizes=(12, 9, 5, 3))
    expected = update(context, data, [0, 1, 2, 3], MOAP, recipe)
    captured = []

    def capture(step):
        captured.append(step)
        return step

    monkeypatch.setattr(graphs, "capture_for", lambda device: capture)
    ours = update(context, data, [0, 1, 2, 3], MOAP, recipe)
    assert len(captured) == 3
    torch.testing.assert_close(ours.losses, expected.losses, rtol=0, atol=0)
    for name, tensor in expected.tensors.items():
        torch.testing.assert_close(ours.tensors[name], tensor, rtol=0, atol=0)
        torch.testing.assert_close(ours.momentum[name], expected.momentum[name], rtol=0, atol=0)


@pytest.mark.parametrize("method", [MOAP, CoOp()], ids=lambda method: method.name)
def test_clients_who_are_done_stay_where_they_are_until_the_end_of_a_stretch(context, monkeypatch, method):
    recipe, data = replace(RECIPE, epochs=5, schedule="cosine"), make_data(train_sizes=(16, 12, 9, 5))  # 20, 15, 10, 5
    expected = update(context, data, [0, 1, 2, 3], method, recipe)
    taken = []
    monkeypatch.setattr(graphs, "capture_for", lambda device: lambda step: taken.append(step) or step)
    ours = update(context, data, [0, 1, 2, 3], method, recipe)
    assert len(taken) == 1  # one stretch of twelve steps, in which two are done early; the last eight are too few
    torch.testing.assert_close(ours.losses, expected.losses, rtol=1e-6, atol=1e-6)
    for name, tensor in expected.tensors.items():
        torch.testing.assert_close(ours.tensors[name], tensor, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(ours.momentum[name], expected.momentum[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("steps", "least", "stretches"), [
    ((4,), 1, [(1, 4, False)]), ((3, 2, 2), 1, [(3, 2, False), (1, 1, False)]),
    ((5, 5, 1), 1, [(3, 1, False), (2, 4, False)]), ((5, 5, 1), 4, [(3, 4, True), (2, 1, False)]),
    ((20, 15, 10, 5), 12, [(4, 12, True), (2, 8, True)]), ((30, 30, 12), 12, [(3, 12, False), (2, 18, False)]),
    ((3, 2), 12, [(2, 3, True)]), ((300, 10, 10), 12, [(3, 12, True), (1, 288, False)]),
])
def test_stretches(steps, least, stretches):
    assert list(_stretches(steps, least)) == stretches


def test_what_failed_for_want_of_memory_or_for_numbers_that_are_not_finite_is_tried_again():
    ours = Counting()
    for _ in range(2):
        graphs.repeat(ours.step, 20, [ours.x, ours.number], ours.out_of_memory)
    assert ours.launched == 2 * 21
    for _ in range(2):
        graphs.repeat(ours.step, 20, [ours.x, ours.number], ours.broken_off)
    assert ours.broken == 2
    ours = Counting()
    ours.x[0] = float("nan")
    for _ in range(2):
        graphs.repeat(ours.step, 20, [ours.x, ours.number], ours.faithful)
    assert ours.replayed == 2
