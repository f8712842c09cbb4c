"""Attacks find what over-fitted prompts have seen, and nothing where there is nothing to find."""

import numpy as np
import pytest
import torch
from test_federation import MOAP, federation
from tiny import NAMES, make_data

from pfedmoap.client import Recipe
from pfedmoap.leakage import attacks, ownership
from pfedmoap.leakage.lending import linked, owners
from pfedmoap.leakage.scoring import auc
from pfedmoap.leakage.shadows import train_shadows
from pfedmoap.methods import PromptFL
from pfedmoap.privacy import Privacy

CLIENTS, IMAGES = 12, 8  # of every client as many are asked about that it has not


def overfit(context, epochs: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Prompts of clients with a few images that look like nothing in particular: prompts, features and labels."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((2 * CLIENTS * IMAGES, 32))
    features = torch.from_numpy(features / np.linalg.norm(features, axis=1, keepdims=True)).float()
    labels = torch.from_numpy(rng.integers(len(NAMES), size=len(features)))
    shards = np.split(np.arange(CLIENTS * IMAGES), CLIENTS)
    recipe = Recipe(epochs, IMAGES, lr=0.003, momentum=0.9, weight_decay=0.0)
    prompts = train_shadows(PromptFL(), recipe, context, {"prompt": context.initial_prompt}, shards, features[None],
                            labels, number=1, past_epochs=0, seed=5, ids=range(CLIENTS))
    return prompts, features, labels


def mean_areas(context, prompts, features, labels, shuffled: bool = False) -> dict[str, float]:
    """Of the attacks without shadows, mean over clients."""
    sure = attacks.confidence(torch.cat([context.initial_prompt[None], prompts]), features, labels, context)
    areas = {"loss": [], "calibrated": []}
    for client in range(CLIENTS):
        own = np.arange(client * IMAGES, (client + 1) * IMAGES)
        asked, member = np.concatenate([own, own + CLIENTS * IMAGES]), np.arange(2 * IMAGES) < IMAGES
        if shuffled:
            member = np.random.default_rng(client).permutation(member)
        after, before = sure[1 + client, asked], sure[0, asked]
        areas["loss"].append(auc(attacks.loss_threshold(after).numpy(), member))
        areas["calibrated"].append(auc(attacks.calibrated_loss(after, before).numpy(), member))
    return {name: float(np.mean(values)) for name, values in areas.items()}


def test_members_of_over_fitted_prompts_are_found_and_others_are_not(context):
    trained, untrained = overfit(context, epochs=100), overfit(context, epochs=0)
    found, shuffled = mean_areas(context, *trained), mean_areas(context, *trained, shuffled=True)
    assert min(found.values()) > 0.8
    guess = 3 * 0.15 / CLIENTS**0.5  # three standard deviations of a mean of guesses
    assert all(abs(area - 0.5) < guess for area in shuffled.values())
    assert abs(mean_areas(context, *untrained)["loss"] - 0.5) < guess
    assert torch.equal(untrained[0], context.initial_prompt.expand_as(untrained[0]))


def test_shadow_clients_tell_members_from_others(context):
    """Twelve clients with random halves of the same sixteen images: each in turn is attacked with the others."""
    _, features, labels = overfit(context, epochs=0)
    features, labels = features[: 2 * IMAGES], labels[: 2 * IMAGES]
    rng = np.random.default_rng(1)
    inside = np.stack([rng.permutation(np.arange(2 * IMAGES) < IMAGES) for _ in range(24)])
    recipe = Recipe(60, IMAGES, lr=0.003, momentum=0.9, weight_decay=0.0)
    prompts = train_shadows(PromptFL(), recipe, context, {"prompt": context.initial_prompt},
                            [np.flatnonzero(half) for half in inside], features[None], labels, number=1,
                            past_epochs=0, seed=5, ids=range(24))
    sure, chosen = attacks.confidence(prompts, features, labels, context), torch.from_numpy(inside)
    areas = []
    for one in range(8):
        rest = [other for other in range(24) if other != one]
        areas.append([auc(score.numpy(), inside[one]) for score in (
            attacks.likelihood_ratio(sure[one], sure[rest], chosen[rest]),
            attacks.prompt_direction(prompts[one], prompts[rest], chosen[rest]))])
    assert (np.mean(areas, axis=0) > 0.7).all()


def test_confidence_is_the_logit_of_the_softmax(context):
    _, features, labels = overfit(context, epochs=0)
    prompt = context.initial_prompt[None]
    sure = attacks.confidence(prompt, features, labels, context)[0]
    chosen = (context.logit_scale * features @ context.text(prompt)[0].T).softmax(1).gather(1, labels[:, None])[:, 0]
    torch.testing.assert_close(sure, (chosen / (1 - chosen)).log(), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(attacks.loss_threshold(sure), chosen.log(), atol=1e-4, rtol=1e-4)


def test_the_likelihood_ratio_of_two_gaussians_worked_by_hand():
    shadows = torch.tensor([[1.0, 4.0], [3.0, 6.0], [-3.0, 4.0], [-1.0, 6.0]])  # (S, n)
    inside = torch.tensor([[True, True], [True, True], [False, False], [False, False]])
    # Variances are 2 everywhere; means are 2 and -2 for the first image, 5 and 5 for the second.
    ratio = attacks.likelihood_ratio(torch.tensor([1.0, 9.0]), shadows, inside)
    assert ratio.tolist() == pytest.approx([(9 - 1) / 4, 0.0])


def test_the_direction_of_a_prompt_worked_by_hand():
    shadows = torch.tensor([[[2.0, 1.0]], [[4.0, 1.0]], [[0.0, 1.0]], [[-2.0, 1.0]]])  # (S, 1, 2)
    inside = torch.tensor([[True], [True], [False], [False]])  # means (3, 1) and (-1, 1), half way (1, 1)
    assert attacks.prompt_direction(torch.tensor([[1.5, 7.0]]), shadows, inside).tolist() == pytest.approx([0.5])


@pytest.mark.parametrize("privacy", [None, Privacy(8.0)], ids=["plain", "private"])
@pytest.mark.parametrize("method", [PromptFL(), MOAP], ids=lambda method: method.name)
def test_a_shadow_with_the_clients_own_images_and_id_is_the_client(context, method, privacy):
    """Round 2: there are experts, and the gate is as fresh as a shadow's."""
    recipe = Recipe(2, 4, 0.05, 0.9, 5e-4, clip=1.0 if privacy else None)
    run = federation(context, method, 2, recipe=recipe, privacy=privacy)
    run.run_round()
    downloads, past = run.downloads(range(4)), list(run.epochs)
    uploads = {update.client: update.upload["prompt"] for update in run.train(downloads, 2)}
    for client, upload in uploads.items():
        shadow = train_shadows(
            method, recipe, context, downloads[client], [run.data.train_rows[client]], run.data.train_features,
            run.data.train_labels, number=2, past_epochs=past[client], seed=context.seed, ids=[client],
            sigma=run.sigma(client) if privacy else None)
        torch.testing.assert_close(shadow[0], upload, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(upload, downloads[client]["prompt"], atol=1e-4)


def test_owned_classes_show_in_prompts_that_learned_them(context):
    data = make_data(train_sizes=(240,))
    features, labels = data.train_features[0], data.train_labels
    found, hands = [], [np.isin(np.arange(len(NAMES)), (first, first + 1)) for first in range(0, len(NAMES), 2)]
    for owned in hands:
        own = np.flatnonzero(owned[labels.numpy()])[:32]
        prompt = train_shadows(PromptFL(), Recipe(30, 8, 0.003, 0.9, 0.0), context, {"prompt": context.initial_prompt},
                               [own], features[None], labels, number=1, past_epochs=0, seed=5, ids=[0])
        others = np.setdiff1d(np.arange(len(labels)), own)
        scores = ownership.class_scores(context.initial_prompt[None], prompt, features[others], labels[others], context)
        assert all(score.shape == (len(NAMES),) for score in scores.values())
        assert torch.equal(scores[ownership.LOSS], scores[ownership.LOSS_ALL])  # one round is all rounds
        found.append(scores[ownership.LOSS])
    for scores in (found, ownership.against_others(torch.stack(found))):  # (clients, C)
        assert np.mean([auc(score.numpy(), owned) for score, owned in zip(scores, hands, strict=True)]) > 0.9


def test_scores_against_others_worked_by_hand():
    scores = torch.tensor([[4.0, 1.0], [2.0, 1.0], [0.0, 4.0]])
    assert ownership.against_others(scores).tolist() == [[3.0, -1.5], [0.0, -1.5], [-3.0, 3.0]]
    assert torch.equal(ownership.against_others(scores[:1]), scores[:1])
    sure = torch.tensor([[0.0, 30.0], [0.0, -1.0], [0.0, -1.0]])
    lower = attacks.loss_against_others(sure[0], sure[1:])
    assert lower.tolist() == pytest.approx([0.0, np.log1p(np.e)], abs=1e-5)


def test_lenders_are_followed_by_what_sets_their_prompts_apart():
    old = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[-1.0, -1.0]]])
    new = 10 + torch.tensor([[[-3.0, -2.9]], [[3.0, 0.1]], [[0.0, 2.8]]])
    assert linked(old, new) == [2, 0, 1]
    assert owners({7: old[1], 9: old[0]}, old[:2]) == [9, 7]
