"""Differential privacy: calibration, clipping, noise, and what leaves the client."""

import math
from dataclasses import replace

import dp_accounting
import numpy as np
import pytest
import torch
from scipy.stats import norm
from test_federation import RECIPE, federation, state
from tiny import make_data

from pfedmoap.client import Recipe
from pfedmoap.errors import UserError
from pfedmoap.experiments import from_profile, run
from pfedmoap.methods import CoOp, FedProx, PFedMoAP, PromptFL
from pfedmoap.privacy import Privacy, add_noise, clip_gradients, sensitivity

MOAP = PFedMoAP(d_gating=16, heads=4, experts=2)
CLIPPED = Recipe(2, 4, 0.05, 0.9, 5e-4, clip=1.0)


def delta_of(epsilon, sigma, reach):
    """The analytic Gaussian mechanism (Balle and Wang 2018)."""
    a, b = reach / (2 * sigma), epsilon * sigma / reach
    return norm.cdf(a - b) - math.exp(epsilon) * norm.cdf(-a - b)


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 25.0, 50.0])
def test_one_uploads_noise_is_the_analytic_mechanisms(epsilon):
    sigma = Privacy(epsilon).sigma(0.7, uploads=10)
    assert delta_of(epsilon, sigma, 0.7) == pytest.approx(0.05, rel=1e-4)


def test_noise_for_all_uploads_together_is_that_of_their_composition():
    """n Gaussian mechanisms are one with sqrt(n) times the sensitivity."""
    sigma = Privacy(5.0, accounting="total").sigma(1.0, uploads=9)
    assert delta_of(5.0, sigma, 3.0) == pytest.approx(0.05, rel=1e-4)
    assert Privacy(5.0).sigma(1.0, uploads=9) == pytest.approx(sigma / 3)
    accountant = dp_accounting.pld.PLDAccountant(value_discretization_interval=1e-3)
    accountant.compose(dp_accounting.GaussianDpEvent(sigma), 9)
    assert accountant.get_epsilon(0.05) == pytest.approx(5.0, rel=1e-4)


def test_the_size_of_the_noise_that_table_5_needs():
    reach = sensitivity(50, 0.002, 1.0, 0.9)
    assert Privacy(50.0).sigma(reach, 10) == pytest.approx(0.2, rel=0.15)  # ten times the prompt's initial 0.02


def test_sensitivity_bounds_two_runs_that_differ_in_every_gradient():
    reach, lr, momentum = sensitivity(20, 0.1, 1.5, 0.9), 0.1, 0.9
    ends = []
    for sign in (1, -1):  # opposite gradients of the largest norm: the bound is reached
        position, buffer = 0.0, 0.0
        for _ in range(20):
            buffer = momentum * buffer + sign * 1.5
            position -= lr * buffer
        ends.append(position)
    assert abs(ends[0] - ends[1]) == pytest.approx(reach)


def test_gradients_are_clipped_per_client_over_all_that_is_sent():
    gradients = {"prompt": torch.tensor([[[3.0, 0.0]], [[0.3, 0.0]]]), "shared": torch.tensor([[4.0], [0.4]]),
                 "gate.x": torch.tensor([[9.0], [9.0]])}
    clipped = clip_gradients(gradients, {"prompt", "shared"}, 1.0)
    torch.testing.assert_close(clipped["prompt"], torch.tensor([[[0.6, 0.0]], [[0.3, 0.0]]]))
    torch.testing.assert_close(clipped["shared"], torch.tensor([[0.8], [0.4]]))
    assert torch.equal(clipped["gate.x"], gradients["gate.x"])


def test_the_noise_has_the_standard_deviation_that_was_asked_for():
    upload = {"prompt": torch.zeros(16, 512)}
    noise = add_noise(upload, 0.3, 1, 2, 3)["prompt"]
    assert noise.std().item() == pytest.approx(0.3, rel=0.03) and abs(noise.mean().item()) < 0.02
    assert torch.equal(noise, add_noise(upload, 0.3, 1, 2, 3)["prompt"])
    assert not torch.equal(noise, add_noise(upload, 0.3, 1, 3, 3)["prompt"])
    assert not torch.equal(noise, add_noise(upload, 0.3, 1, 2, 4)["prompt"])


@pytest.mark.parametrize("method", [PromptFL(), FedProx(), MOAP], ids=lambda method: method.name)
def test_what_is_uploaded_is_noisy_and_what_stays_is_not(context, method):
    run = federation(context, method, 2, recipe=CLIPPED, privacy=Privacy(50.0))
    without = federation(context, method, 2, recipe=CLIPPED)
    first, clean = run.run_round(), without.run_round()
    assert first.losses == clean.losses  # the noise comes after the local update
    steps = [6, 4, 2, 2]  # of 12, 9, 5 and 3 images in batches of 4, twice
    for client in range(4):
        expected = Privacy(50.0).sigma(sensitivity(steps[client], 0.05, 1.0, 0.9), 1)
        assert first.sigmas[client] == pytest.approx(expected)
    if method is MOAP:
        for client in range(4):
            own, sent = run.personal[client]["prompt"], run.server.pool[client]
            assert torch.equal(own, without.personal[client]["prompt"])
            assert (sent - own).std().item() == pytest.approx(first.sigmas[client], rel=0.25)
    assert not torch.allclose(run.server.shared["prompt"], without.server.shared["prompt"])


def test_clients_can_be_tested_with_what_they_uploaded(context):
    run = federation(context, MOAP, 1, recipe=CLIPPED, privacy=Privacy(50.0, tested="uploaded"))
    run.run_round()
    assert all(torch.equal(run.personal[client]["prompt"], run.server.pool[client]) for client in range(4))


def test_infinite_epsilon_clips_only(context):
    run = federation(context, MOAP, 2, recipe=CLIPPED, privacy=Privacy(math.inf))
    clipped = federation(context, MOAP, 2, recipe=CLIPPED)
    plain = federation(context, MOAP, 2)
    for _ in zip(run.rounds(), clipped.rounds(), plain.rounds(), strict=True):
        pass
    assert set(run.history[0].sigmas.values()) == {0.0}
    assert all(torch.equal(tensor, state(clipped)[key]) for key, tensor in state(run).items())
    assert not torch.equal(state(run)["shared/prompt"], state(plain)["shared/prompt"])


def test_a_gradient_below_the_bound_is_left_alone(context):
    plain = federation(context, PromptFL(), 1, recipe=RECIPE)
    loose = federation(context, PromptFL(), 1, recipe=Recipe(2, 4, 0.05, 0.9, 5e-4, clip=1e6))
    plain.run_round()
    loose.run_round()
    np.testing.assert_array_equal(plain.server.shared["prompt"], loose.server.shared["prompt"])


def test_clipping_bounds_how_far_a_prompt_can_move(context):
    data, bound = make_data(train_sizes=(12,)), 1e-3
    recipe = Recipe(3, 4, 0.05, 0.9, 0.0, clip=bound)
    run = federation(context, PromptFL(), 1, recipe=recipe, data=data)
    run.run_round()
    moved = (run.server.shared["prompt"] - context.initial_prompt).norm().item()
    assert 0 < moved <= sensitivity(9, 0.05, bound, 0.9) / 2 + 1e-7


@pytest.mark.parametrize("settings", [{"epsilon": 0}, {"epsilon": 1, "delta": 0}, {"epsilon": 1, "clip": 0},
                                      {"epsilon": 1, "accounting": "rdp"}, {"epsilon": 1, "tested": "both"}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(UserError, match=f"{list(settings)[-1]} must be"):
        Privacy(**settings)


def test_methods_that_send_nothing_need_no_protection():
    gradients = {"prompt": torch.full((2, 3, 4), 5.0)}
    assert clip_gradients(gradients, set(), 1.0) is gradients
    alone = from_profile("nature", CoOp(), "smoke", epsilon=1.0)
    record = run(alone, progress=False)
    assert record["accuracy"] == run(replace(alone, epsilon=None), progress=False)["accuracy"]
    assert all(not entry["bytes_up"] or not any(entry["bytes_up"].values()) for entry in record["rounds"])
