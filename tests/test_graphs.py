"""Repeated steps, with captures that are faithful, wrong, or impossible; a real capture needs a GPU (test_device)."""

from dataclasses import replace

import pytest
import torch
from conftest import make_data
from test_client import MOAP, RECIPE, update

from pfedmoap import graphs
from pfedmoap.client import _stretches


class Counting:
    """x <- 2 x + step number; how often it was launched and replayed."""

    def __init__(self):
        self.x, self.number = torch.ones(3), torch.zeros(1)
        self.launched = self.replayed = 0

    def step(self):
        self.launched += 1
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


@pytest.mark.parametrize("times", [0, 1, graphs.PAYS - 1, graphs.PAYS, 30])
@pytest.mark.parametrize("capture", [None, "faithful", "wrong", "impossible"])
def test_every_way_takes_the_same_steps(times, capture):
    plain, ours = Counting(), Counting()
    for _ in range(times):
        plain.step()
    graphs.repeat(ours.step, times, [ours.x, ours.number], capture and getattr(ours, capture))
    torch.testing.assert_close((ours.x, ours.number), (plain.x, plain.number), rtol=0, atol=0)
    captured = capture in ("faithful", "wrong") and times >= graphs.PAYS
    launched = {"faithful": graphs.WARM_UP + 1}.get(capture if captured else None, times)
    assert ours.launched == launched
    assert ours.replayed == (times - graphs.WARM_UP if captured and capture == "faithful" else int(captured))


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


@pytest.mark.parametrize(("steps", "stretches"), [
    ((4,), [(1, 4)]), ((3, 2, 2), [(3, 2), (1, 1)]), ((5, 5, 1), [(3, 1), (2, 4)]),
])
def test_stretches(steps, stretches):
    assert list(_stretches(steps)) == stretches
