"""FedOTP's plan against POT's entropic partial transport."""

import numpy as np
import ot
import pytest
import torch
from torch.nn import functional as F

from pfedmoap.methods import Context, FedOTP
from pfedmoap.methods.transport import partial_transport


def costs(*shape, spread=0.3, seed=0):
    return 1 - spread * torch.randn(*shape, generator=torch.manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("mass", [0.3, 0.8, 0.95])
@pytest.mark.parametrize("positions", [16, 49])
def test_the_plan_is_pots(mass, positions):
    cost = costs(5, positions, 2)
    plan = partial_transport(cost, mass, iterations=5000, threshold=1e-10)
    a, b = np.full(positions, 1 / positions), np.full(2, mass / 2)
    for problem, ours in zip(cost, plan, strict=True):
        theirs = ot.partial.entropic_partial_wasserstein(
            a, b, problem.numpy(), 0.1, m=mass, numItermax=5000, stopThr=1e-9)
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
        assert ours.sum().item() == pytest.approx(mass, abs=1e-6)
        np.testing.assert_allclose(ours.sum(0), b, atol=1e-6)
        assert (ours.sum(1) <= 1 / positions + 1e-6).all()


def test_full_mass_is_plain_sinkhorn():
    cost = costs(16, 2)
    theirs = ot.sinkhorn(np.full(16, 1 / 16), np.full(2, 0.5), cost.numpy(), 0.1, stopThr=1e-10, numItermax=5000)
    np.testing.assert_allclose(partial_transport(cost, 1.0, iterations=5000, threshold=1e-10), theirs, atol=1e-6)


def test_the_default_tolerance_is_near_the_limit_in_single_precision():
    cost = costs(20, 49, 2)
    exact = partial_transport(cost, 0.8, iterations=5000, threshold=1e-10)
    quick = partial_transport(cost.float(), 0.8)
    assert (quick.double() - exact).abs().sum((1, 2)).max() < 0.01 * 0.8


def test_every_problem_stops_by_itself():
    """Easy and hard problems in one batch give what each gives alone: one more iteration would change about 1e-5."""
    batch = torch.cat([costs(3, 16, 2, spread=0.01), costs(3, 16, 2, spread=0.8, seed=1)]).float()
    together = partial_transport(batch, 0.8)
    for number, cost in enumerate(batch):
        torch.testing.assert_close(together[number], partial_transport(cost[None], 0.8)[0], atol=1e-7, rtol=0)
    longer = partial_transport(batch, 0.8, threshold=1e-7)
    assert not torch.equal(together[3:], longer[3:])  # the hard ones had stopped at their tolerance


@pytest.mark.parametrize(("mass", "shape"), [(0.8, (2, 3)), (1.0, (6,))])
def test_in_an_exported_graph_the_plan_is_the_same(monkeypatch, mass, shape):
    """Its loop goes on while any problem does, and who has stopped keeps what it has."""
    cost = torch.cat([costs(3, 16, 2, spread=0.01), costs(3, 16, 2, spread=0.8, seed=1)]).float().view(*shape, 16, 2)
    expected = partial_transport(cost, mass)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert torch.equal(partial_transport(cost, mass), expected) and expected.shape == cost.shape


@pytest.mark.parametrize("mass", [0.8, 1.0])
def test_one_iteration_by_hand(mass):
    """Kernel exp(-cost / eps) = [[1, 1/2], [1/8, 1/4]]; u scales rows to 1/2, by 1 at most unless all mass is moved."""
    cost = -0.5 * torch.tensor([[1.0, 0.5], [0.125, 0.25]], dtype=torch.float64).log()
    rows = [0.5 / 1.5, 0.5 / 0.375 if mass == 1 else 1.0]  # with v = 1
    columns = [mass / 2 / (rows[0] + rows[1] / 8), mass / 2 / (rows[0] / 2 + rows[1] / 4)]
    expected = [[rows[0] * columns[0], rows[0] / 2 * columns[1]], [rows[1] / 8 * columns[0], rows[1] / 4 * columns[1]]]
    plan = partial_transport(cost, mass, regularisation=0.5, iterations=1, threshold=0.0)
    torch.testing.assert_close(plan, torch.tensor(expected, dtype=torch.float64))


def test_the_plan_has_no_gradient():
    cost = costs(4, 16, 2).requires_grad_()
    assert not partial_transport(cost, 0.8).requires_grad


def test_fedotp_moves_mass_at_the_cost_of_unlikeness_by_its_settings():
    """z_c = s sum(T * Sim) with POT's plan at cost 1 - Sim; a loose threshold or one iteration gives another plan."""
    draw = torch.manual_seed(3)
    images, text = (F.normalize(torch.randn(*shape, 4, generator=draw), dim=-1) for shape in ((2, 3, 9), (2, 2, 5)))
    context = Context(lambda prompts: text, torch.zeros(5, 4), 20.0, torch.zeros(1, 4), 1)
    model = {"prompt": torch.zeros(2, 1, 4), "own": torch.zeros(2, 1, 4)}

    def logits(**settings):
        return FedOTP(mass=0.6, regularisation=0.3, **settings).logits(model, {}, images, context)

    found = logits(iterations=1000, threshold=0.0)
    a, b = np.full(9, 1 / 9), np.full(2, 0.3)
    for client, image, label in np.ndindex(2, 3, 5):
        similarity = (images[client, image] @ text[client, :, label].T).double().numpy()  # (M, 2)
        plan = ot.partial.entropic_partial_wasserstein(
            a, b, 1 - similarity, 0.3, m=0.6, numItermax=1000, stopThr=1e-12)
        assert found[client, image, label].item() == pytest.approx(20 * (plan * similarity).sum(), abs=1e-4)
    similarity = torch.einsum("nbmd,npcd->nbcmp", images, text)
    once = partial_transport(1 - similarity, 0.6, regularisation=0.3, iterations=1)
    for short in ({"iterations": 1, "threshold": 0.0}, {"iterations": 1000, "threshold": 10.0}):
        torch.testing.assert_close(logits(**short), 20 * (once * similarity).sum((-2, -1)))
        assert (logits(**short) - found).abs().max() > 1e-3
