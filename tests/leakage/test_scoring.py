"""Areas under the curve worked by hand, and what differential privacy allows them to be."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from pfedmoap.leakage.bounds import auc_bound, gaussian_auc, shift
from pfedmoap.leakage.scoring import auc, chance, chance_of_deal, true_positives
from pfedmoap.privacy import Privacy


@pytest.mark.parametrize("scores, positive, area", [
    ([4, 3, 2, 1], [1, 1, 0, 0], 1.0),
    ([4, 3, 2, 1], [1, 0, 1, 0], 0.75),  # three of four pairs
    ([1, 2, 3], [1, 0, 0], 0.0),
    ([5, 5, 5, 5], [1, 0, 1, 0], 0.5),  # ties count half
])  # fmt: skip
def test_areas_worked_by_hand(scores, positive, area):
    assert auc(np.array(scores), np.array(positive)) == pytest.approx(area)


def test_no_area_where_one_kind_is_missing():
    assert math.isnan(auc(np.array([1.0, 2.0]), np.array([True, True])))


def test_true_positives_at_few_false_ones():
    scores, member = np.arange(40.0), np.zeros(40, dtype=bool)
    member[[39, 38, 36, 3]] = True  # one non-member, 37, is above the third
    assert true_positives(scores, member, at=0.0) == pytest.approx(0.5)
    assert true_positives(scores, member, at=1 / 36) == pytest.approx(0.75)
    assert true_positives(scores, member, at=1.0) == 1.0


@pytest.mark.parametrize("levels", [3, 1000])
def test_both_are_scikit_learns(levels):
    rng = np.random.default_rng(levels)
    scores, member = rng.integers(levels, size=60), rng.random(60) < 0.4
    false, true, _ = roc_curve(member, scores, drop_intermediate=False)
    assert auc(scores, member) == pytest.approx(roc_auc_score(member, scores))
    for at in (0.0, 0.05, 0.3, 1.0):
        assert true_positives(scores, member, at) == pytest.approx(true[false <= at].max())


def test_the_spread_of_guessing_is_that_of_many_guesses():
    rng, member = np.random.default_rng(0), np.arange(24) < 12
    areas = [auc(rng.standard_normal(24), member) for _ in range(2000)]
    assert chance(12, 12) == pytest.approx(np.std(areas), rel=0.05)


def test_one_clients_guessed_classes_are_as_spread_as_guessed_members():
    rng, owned = np.random.default_rng(0), np.arange(10) < 2
    assert chance_of_deal(rng.standard_normal((1, 10)), owned[None]) == pytest.approx(chance(2, 8))


def test_the_spread_of_guessed_classes_worked_by_hand():
    owned = np.array([[1, 0], [0, 1]])
    assert chance_of_deal(np.array([[1.0, 2.0], [1.0, 2.0]]), owned) == 0.0  # one has the better class, one the worse
    assert chance_of_deal(np.array([[1.0, 2.0], [2.0, 1.0]]), owned) == pytest.approx(0.5)  # both are right, or wrong
    assert chance_of_deal(np.array([[1.0, 2.0], [1.0, 1.0]]), owned) == pytest.approx(0.25)  # the second never knows
    assert math.isnan(chance_of_deal(np.array([[1.0, 2.0]]), np.array([[True, True]])))
    with_all = np.array([[1, 0], [0, 1], [1, 1]])  # the area of a client of all classes is not defined
    assert chance_of_deal(np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]]), with_all) == pytest.approx(0.5)


@pytest.mark.parametrize("common, sizes", [(0.0, (2, 2, 2)), (2.0, (2, 2, 2)), (-1.0, (1, 3, 2))])
def test_the_spread_of_guessed_classes_is_that_of_all_deals(common, sizes):
    """Six classes: scores of three clients, alike, apart, or taken against each other."""
    rng = np.random.default_rng(7)
    scores = rng.standard_normal((3, 6))
    scores = scores - scores.mean(0) if common < 0 else scores.round(1) + common * rng.standard_normal(6)
    owned = np.repeat(np.eye(3, dtype=bool), sizes, axis=1)  # (clients, C)
    areas = [np.mean([auc(*each) for each in zip(scores, owned[:, deal], strict=True)])
             for deal in map(list, itertools.permutations(range(6)))]
    assert np.mean(areas) == pytest.approx(0.5)
    assert chance_of_deal(scores, owned) == pytest.approx(np.std(areas))


def test_bounds_worked_by_hand():
    assert auc_bound(0.0, 0.0) == 0.5
    assert auc_bound(math.log(3), 0.0) == pytest.approx(0.75)  # 1 - 1 / 4
    assert auc_bound(0.0, 0.1) == pytest.approx(1 - 0.81 / 2)
    assert auc_bound(math.inf, 0.05) == 1.0


@pytest.mark.parametrize("epsilon, delta", [(0.5, 0.05), (2.0, 0.0), (8.0, 0.05)])
def test_the_bound_is_the_area_under_the_most_powerful_curve(epsilon, delta):
    false = np.linspace(0, 1, 200_001)
    power = np.minimum(1, np.minimum(np.exp(epsilon) * false + delta, 1 - np.exp(-epsilon) * (1 - delta - false)))
    assert auc_bound(epsilon, delta) == pytest.approx(np.trapezoid(power, false), abs=1e-4)


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 25.0])
def test_the_mechanisms_own_bound_is_the_exact_area_of_two_gaussians_and_below_the_general_one(epsilon):
    apart = shift(Privacy(epsilon), uploads=1)
    thresholds = np.linspace(-10, 10 + apart, 20_001)
    exact = -np.trapezoid(norm.sf(thresholds - apart), norm.sf(thresholds))
    assert gaussian_auc(apart) == pytest.approx(exact, abs=1e-5)
    assert gaussian_auc(apart) <= auc_bound(epsilon, 0.05) + 1e-9
    assert gaussian_auc(apart, uploads=4) == pytest.approx(gaussian_auc(2 * apart))


def test_without_noise_nothing_is_excluded():
    assert gaussian_auc(shift(Privacy(math.inf), uploads=1)) == 1.0
