"""Plain classifiers of image features: equal to the libraries and formulas they come from, and runs like any other."""

import copy
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from sklearn import linear_model
from test_federation import federation, finished, state
from test_methods import by_hand
from tiny import make_data

from pfedmoap.experiments import from_profile, run
from pfedmoap.method import OwnImages
from pfedmoap.methods import (
    CLAP,
    METHODS,
    ClassMeans,
    FedAvgProbe,
    LogisticRegression,
    PromptFL,
    TipAdapter,
    TipAdapterF,
    ZeroShot,
)

LOCAL = [LogisticRegression(), ClassMeans(), TipAdapter(), TipAdapterF(), CLAP()]
ALL = [*LOCAL, FedAvgProbe()]
QUICK = [*LOCAL[:3], TipAdapterF(key_steps=10), CLAP(probe_steps=10), FedAvgProbe()]


def own(features, labels) -> OwnImages:
    return OwnImages(torch.tensor(features), torch.tensor(labels))


def of_classes(*classes, data=None) -> OwnImages:
    """Training images of these classes, from several clients."""
    data = data or make_data(train_sizes=(60, 30))
    chosen = torch.isin(data.train_labels, torch.tensor(classes))
    return OwnImages(data.train_features[0][chosen], data.train_labels[chosen])


def logits_of(method, clients, images, context):
    """Logits of each client's own images (B, d): (clients, B, C)."""
    logits = method.logits({}, method.fixed({}, [{}] * len(clients), context, clients), images, context)
    assert logits.dtype == images.dtype
    return logits


# --- logistic regression


@pytest.mark.parametrize("inverse_penalty", [0.1, 1.0, 30.0])
def test_logistic_regression_is_scikit_learns(context, inverse_penalty):
    """Of six, three and two classes; scikit-learn with another solver."""
    clients = [of_classes(*range(6)), of_classes(0, 2, 5), of_classes(1, 4)]
    images = make_data().test_features.expand(3, -1, -1)
    method = LogisticRegression(inverse_penalty=inverse_penalty)
    probabilities = logits_of(method, clients, images, context).softmax(-1)
    for ours, one in zip(probabilities, clients, strict=True):
        oracle = linear_model.LogisticRegression(C=inverse_penalty, solver="newton-cg", tol=1e-9, max_iter=1000)
        oracle.fit(one.features.double().numpy(), one.labels.numpy())
        theirs = oracle.predict_proba(images[0].double().numpy())
        np.testing.assert_allclose(ours[:, oracle.classes_].numpy(), theirs, atol=1e-5)
        assert np.delete(ours.numpy(), oracle.classes_, axis=1).max(initial=0) == 0


def test_logistic_regression_is_at_the_minimum_of_its_loss(context):
    images = of_classes(*range(6))
    fitted = LogisticRegression(inverse_penalty=2.0).fit(images, context)
    weights, bias = fitted.weights.clone().requires_grad_(), fitted.bias.clone().requires_grad_()
    errors = F.cross_entropy(images.features.double() @ weights.T + bias, images.labels, reduction="sum")
    (2.0 * errors + weights.square().sum() / 2).backward()
    assert weights.grad.abs().max() < 1e-5 and bias.grad.abs().max() < 1e-5 < 0.1 < fitted.weights.abs().max()


def test_logistic_regression_does_not_warn_of_classes_with_an_image_or_two(context):
    context = replace(context, handwritten=torch.zeros(20, 32))
    features, labels = torch.randn(30, 32, generator=torch.manual_seed(0)), torch.arange(30) % 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LogisticRegression().fit(OwnImages(F.normalize(features, dim=1), labels), context)


# --- class means


def test_class_means_by_hand():
    """Client 0's mean of class 0 is (0.8, 0.4), of length 1 (2, 1) / sqrt 5; client 1 owns class 1 alone."""
    context = by_hand(ClassMeans()).context
    clients = [own([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], [0, 0, 1]), own([[0.6, 0.8]], [1])]
    logits = logits_of(ClassMeans(), clients, torch.tensor([[[0.6, 0.8]], [[1.0, 0.0]]]), context)
    torch.testing.assert_close(logits, torch.tensor([[[4 / math.sqrt(5), 1.6]], [[-math.inf, 1.2]]]))


# --- Tip-Adapter


def test_tip_adapter_by_hand():
    """The hand-written features stand crosswise: an image (x, y) scores (2 y, 2 x) without the cache."""
    context = by_hand(TipAdapter()).context
    clients = [own([[1.0, 0.0], [0.6, 0.8]], [0, 1]), own([[0.0, 1.0]], [1])]
    images = torch.tensor([[[1.0, 0.0]], [[0.8, 0.6]]])
    logits = logits_of(TipAdapter(cache_weight=1.5, cache_sharpness=2.0), clients, images, context)
    vote = 1.5 * math.exp(2 * (0.6 - 1))
    torch.testing.assert_close(logits, torch.tensor([[[0 + 1.5, 2 + vote]], [[1.2, 1.6 + vote]]]))


def test_tip_adapter_without_weight_is_zero_shot(context):
    images = make_data().test_features[None]
    zero_shot = ZeroShot().logits({}, {}, images, context)
    assert torch.equal(logits_of(TipAdapter(cache_weight=0.0), [of_classes(0, 1)], images, context), zero_shot)


def test_untrained_tip_adapter_f_is_tip_adapter(context):
    clients, images = [of_classes(0, 1), of_classes(2, 3, 5)], make_data().test_features.expand(2, -1, -1)
    untrained = logits_of(TipAdapterF(key_steps=0), clients, images, context)
    assert torch.equal(untrained, logits_of(TipAdapter(), clients, images, context))
    assert not torch.equal(untrained, logits_of(TipAdapterF(key_steps=1), clients, images, context))


@pytest.mark.parametrize("weight", [1.5, 1e-4])  # with the small one the gradient is as small as eps
def test_tip_adapter_fs_steps_by_hand(weight):
    """One image (1, 0) of class 0 scores a exp(b (k - 1)) against 2, with its key (k, 0) that AdamW moves along it."""
    method = TipAdapterF(cache_weight=weight, cache_sharpness=3.0, key_steps=3, key_lr=0.1)
    key, mean, square = 1.0, 0.0, 0.0
    for step in range(3):
        vote = weight * math.exp(3 * (key - 1))
        slope = -3 * vote / (1 + math.exp(vote - 2))
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        lr = 0.1 * (1 + math.cos(math.pi * step / 3)) / 2
        key -= lr * 0.01 * key  # weight decay
        key -= lr * mean / (1 - 0.9 ** (step + 1)) / (math.sqrt(square / (1 - 0.999 ** (step + 1))) + 1e-4)
    keys = method.train_keys(own([[1.0, 0.0]], [0]), by_hand(method).context)
    torch.testing.assert_close(keys, torch.tensor([[key, 0.0]]))
    assert not keys.requires_grad


def test_training_the_keys_lowers_the_loss(context):
    images = of_classes(*range(6))
    losses = [F.cross_entropy(logits_of(TipAdapterF(key_steps=steps), [images], images.features[None], context)[0],
                              images.labels) for steps in (0, 20, 200)]
    assert losses[0] > losses[1] > losses[2]


# --- CLAP


def test_claps_multipliers_by_hand():
    """Zero-shot gives (1, 0) of class 0 the logits (0, 2), and (0.6, 0.8) of class 0 (1.6, 1.2)."""
    context = by_hand(ClassMeans()).context
    probabilities = 1 / (1 + math.exp(2)), 1 / (1 + math.exp(1.2 - 1.6))
    both, one_each = [sum(probabilities) / 2, 0.0], [probabilities[0], 1 - probabilities[1]]
    for labels, expected in (([0, 0], both), ([0, 1], one_each)):
        images = own([[1.0, 0.0], [0.6, 0.8]], labels)
        multipliers = CLAP(constraint=3.0).multipliers(images, context.handwritten, context.logit_scale)
        torch.testing.assert_close(multipliers, 3 * torch.tensor(expected))


def test_clap_without_images_is_zero_shot():
    context = by_hand(ClassMeans()).context
    fitted = CLAP().fit(OwnImages(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)), context)
    assert torch.equal(fitted.weights, 2.0 * context.handwritten.double()) and not fitted.bias.any()


def test_claps_first_step_by_hand():
    """One image (0.6, 0.8) of class 0, with t_0 = (0, 1), t_1 = (1, 0), s = 2: logits 1.6 and 1.2. w_c only turns."""
    method, context = CLAP(constraint=3.0, probe_steps=1, probe_lr=0.1), by_hand(ClassMeans()).context
    wrong = 1 / (1 + math.exp(1.6 - 1.2))
    turned = [[0.1 * wrong * 2 * 0.6, 1], [1, -0.1 * wrong * 2 * 0.8]]
    expected = F.normalize(torch.tensor(turned, dtype=torch.float64), dim=1)
    torch.testing.assert_close(method.fit(own([[0.6, 0.8]], [0]), context).weights / 2, expected, atol=1e-6, rtol=0)


def test_clap_ends_at_the_minimum_that_another_solver_finds(context):
    data = make_data(train_sizes=(60, 30))
    images = OwnImages(data.train_features[0].double(), data.train_labels)
    means = F.one_hot(images.labels).double().T @ images.features
    context = replace(context, handwritten=F.normalize(means.float() + 2, dim=1), logit_scale=8.0)
    start = context.handwritten.double()
    held = CLAP().multipliers(images, start, 8.0)

    def loss(flat):
        weights = torch.from_numpy(flat).view(6, 32).requires_grad_()
        cosines = images.features @ (weights / weights.norm(dim=1, keepdim=True)).T
        value = F.cross_entropy(8.0 * cosines, images.labels) + (held * (weights - start).square().sum(1)).sum()
        value.backward()
        return value.item(), weights.grad.flatten().numpy()

    found = minimize(loss, start.flatten().numpy(), jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 2000})
    expected = F.normalize(torch.from_numpy(found.x).view(6, 32), dim=1)
    directions = CLAP(probe_steps=3000, probe_lr=0.1).fit(images, context).weights / 8.0
    torch.testing.assert_close(directions, expected, atol=1e-4, rtol=0)
    assert (directions - start).abs().max() > 0.01, "the probe has left zero-shot"


@pytest.mark.parametrize("constraint", [0.0, 1.0])
def test_claps_steps_are_those_of_torchs_sgd_on_its_loss(context, constraint):
    """Without the constraint it is an unregularised probe of cosines."""
    images, start = of_classes(*range(6)), context.handwritten.double()
    features, labels = F.normalize(images.features.double(), dim=1), images.labels
    held = [(context.logit_scale * features[labels == label] @ start.T).softmax(1)[:, label].mean()
            for label in range(6)]
    weights = start.clone().requires_grad_()
    optimizer = torch.optim.SGD([weights], lr=0.002, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)
    for _ in range(30):
        cosines = F.cosine_similarity(features[:, None], weights, dim=-1)
        loss = F.cross_entropy(context.logit_scale * cosines, labels)
        loss = loss + constraint * sum(held[label] * (weights[label] - start[label]).square().sum()
                                       for label in range(6))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    method = CLAP(constraint=constraint, probe_steps=30, probe_lr=0.002)
    directions = method.fit(OwnImages(features, labels), context).weights / context.logit_scale
    torch.testing.assert_close(directions, F.normalize(weights.detach(), dim=1))
    assert (directions - start).abs().max() > 0.01, "the probe has left zero-shot"


def test_a_probe_that_is_held_tightly_is_zero_shot(context):
    """Of all six classes, as one without images is not held. With the same small steps and no constraint it leaves."""
    images, clients = make_data().test_features[None], [of_classes(*range(6))]
    context = replace(context, handwritten=ClassMeans().fit(clients[0], context).weights / context.logit_scale)
    free, held = (logits_of(CLAP(constraint=constraint, probe_lr=5e-5), clients, images, context)
                  for constraint in (0.0, 2e4))
    zero_shot = ZeroShot().logits({}, {}, images, context)
    assert (held - zero_shot).abs().max() < 1e-3 < 0.05 < (free - zero_shot).abs().max()


# --- FedAvg of linear probes


def test_fedavg_probe_by_hand():
    """At W = 0 an image f of class 0 has the gradient s (1/2 - 1) f = -f for row 0, and f for row 1."""
    run = by_hand(FedAvgProbe(), lr=0.1)
    expected = torch.tensor([[0.75 * 0.1, -0.25 * 0.1], [-0.75 * 0.1, 0.25 * 0.1]])
    torch.testing.assert_close(run.server.shared["weights"], expected)
    assert run.history[0].bytes_up == run.history[0].bytes_down == {0: 16, 1: 16} and run.personal == {0: {}, 1: {}}
    assert run.history[0].losses == pytest.approx({0: math.log(2), 1: math.log(2)})
    assert run.history[0].accuracies == [1.0, 1.0]


def test_fedavg_probe_goes_on_from_the_average():
    run = by_hand(FedAvgProbe(), lr=0.1, rounds=2)
    first = [0.75 * 0.1, 0.25 * 0.1]  # the class's own lead, in the direction of client 0's images and of client 1's
    steps = [0.1 * 2 / (1 + math.exp(4 * lead)) for lead in first]  # 2 f W^T is +-2 lead
    expected = [lead + share * step for lead, share, step in zip(first, (0.75, 0.25), steps, strict=True)]
    torch.testing.assert_close(run.server.shared["weights"][0], torch.tensor([expected[0], -expected[1]]))


# --- as methods


@pytest.mark.parametrize("method", QUICK, ids=lambda method: method.name)
def test_clients_of_one_class_alone(context, method):
    """Client 0 has one image; those of client 1 are all of one class."""
    data = make_data(train_sizes=(1, 5))
    data.train_labels[1:] = 3
    (result,) = finished(federation(context, method, rounds=1, data=data)).history
    assert len(result.accuracies) == 2 and all(0 <= accuracy <= 1 for accuracy in result.accuracies)
    if isinstance(method, LogisticRegression | ClassMeans):
        always = [(data.test_labels[rows] == label).float().mean().item()
                  for rows, label in zip(data.test_rows, (data.train_labels[0], 3), strict=True)]
        assert result.accuracies == pytest.approx(always)


@pytest.mark.parametrize("method", QUICK, ids=lambda method: method.name)
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(context, method):
    whole, first, second = (federation(context, method, rounds=3, participation=0.5) for _ in range(3))
    finished(whole), first.run_round()
    second.restore(*copy.deepcopy(first.snapshot()))
    finished(second)
    assert state(whole).keys() == state(second).keys() == ({"shared/weights"} if method == FedAvgProbe() else set())
    assert all(torch.equal(state(whole)[name], state(second)[name]) for name in state(whole))
    assert [entry.accuracies for entry in whole.history] == [entry.accuracies for entry in second.history]


@pytest.mark.parametrize("method", QUICK[:-1], ids=lambda method: method.name)
def test_a_clients_classifier_is_its_own_whoever_is_tested_with_it_and_when(context, method):
    """Client 1 alone is as in a cohort of three, and the same after every round."""
    clients = [of_classes(0, 1, 2), of_classes(3, 4), of_classes(*range(6))]
    images = make_data().test_features.expand(3, -1, -1)
    together = logits_of(method, clients, images, context)
    torch.testing.assert_close(together[1:2], logits_of(method, clients[1:2], images[1:2], context))
    history = finished(federation(context, method, rounds=2)).history
    assert history[0].accuracies == history[1].accuracies and history[0].losses == history[0].bytes_up == {}


@pytest.mark.parametrize("method", ALL, ids=lambda method: method.name)
def test_on_photographs_it_is_far_better_than_guessing(method):
    record = run(from_profile("nature", method, "smoke"), progress=False)
    assert record["accuracy"] > 3 / record["data"]["classes"]


def test_a_clients_own_classifier_has_one_round_and_a_federated_one_the_profiles():
    for profile in ("smoke", "quick", "long", "paper"):
        dataset = "flowers102" if profile == "paper" else "nature"
        as_usual = from_profile(dataset, PromptFL(), profile)
        for method in LOCAL:
            one = from_profile(dataset, method, profile)
            assert (one.rounds, one.views) == (1, as_usual.views)
            assert from_profile(dataset, method, profile, {"rounds": 7}).rounds == 1
            assert from_profile(dataset, method, profile, rounds=7).rounds == 7
        assert from_profile(dataset, FedAvgProbe(), profile).rounds == as_usual.rounds > 1


def test_plain_classifiers_say_so():
    assert {name for name, method in METHODS.items() if method.plain} == {method.name for method in ALL}
