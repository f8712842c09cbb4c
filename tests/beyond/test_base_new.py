"""Base to new: numbers worked out by hand, and what each method does with a class that nobody trained on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from layouts import write_classes, write_images
from test_federation import RECIPE
from test_limits import ALL, SMALL_GATE, name, spatial_data
from tiny import NAMES, make_context, make_data

from pfedmoap import gating
from pfedmoap.beyond import answers, base_new, harmonic_mean
from pfedmoap.beyond.answers import Models
from pfedmoap.client import FederatedData
from pfedmoap.errors import UserError
from pfedmoap.evaluation import NO_ANSWER, own_images
from pfedmoap.experiments import Place, build_method, from_profile, prepare, run
from pfedmoap.federation import Federation, Plan
from pfedmoap.methods import ClassMeans, FedAvgProbe, LogisticRegression, PFedMoAP, PromptFL, ZeroShot
from pfedmoap.prompts import PromptEncoder, TextFeatures

BASE = 4  # of the six classes


@pytest.fixture(scope="module")
def wide(tiny_clip):
    """Everything about all six classes."""
    return make_context(tiny_clip)


@pytest.fixture(scope="module")
def narrow(tiny_clip, wide):
    """The same about the four that are trained on."""
    encoder = PromptEncoder(tiny_clip, NAMES[:BASE])
    return replace(wide, text=TextFeatures(encoder), handwritten=wide.handwritten[:BASE])


def base_data(spatial=False) -> FederatedData:
    """Three clients with images of the four base classes only."""
    data = spatial_data() if spatial else make_data()

    def only_base(rows, labels):
        return [own[labels.numpy()[own] < BASE] for own in rows]

    return replace(data, train_rows=only_base(data.train_rows, data.train_labels)[:3],
                   test_rows=only_base(data.test_rows, data.test_labels)[:3])


def trained(narrow, method, rounds=3, data=None) -> Federation:
    federation = Federation(method, Plan(rounds, 1.0, RECIPE), data or base_data(method.spatial), narrow)
    for _ in federation.rounds():
        pass
    return federation


def scores(federation, images, context=None) -> torch.Tensor:
    """Every client's scores for the same images, by the method's verbs alone: (clients, n, C)."""
    method, models, found = federation.method, Models.of(federation), []
    for client, tested in models.tested.items():
        model = {key: value[None].float() for key, value in tested.items()}
        lent = [models.downloads[client]]
        cached = [own_images(federation.data, client)] if method.remembers_images else None
        fixed = method.fixed(model, lent, federation.context, cached)
        if context:
            model, fixed = method.widen(model, fixed, lent, context)
        found.append(method.logits(model, fixed, images[None], context or federation.context)[0])
    return torch.stack(found)


@pytest.mark.parametrize("method", ALL, ids=name)
def test_among_more_classes_the_old_ones_score_as_before(narrow, wide, method):
    federation = trained(narrow, method)
    images = federation.data.test_features
    before, after = scores(federation, images), scores(federation, images, wide)
    assert after.shape[-1] == len(NAMES)
    shift = (after[..., :BASE] - before).nan_to_num(0.0)  # -inf stays -inf
    assert torch.equal(before.isneginf(), after[..., :BASE].isneginf())
    # A constant changes no answer. FedOTP's transport may stop a step earlier in other company.
    torch.testing.assert_close(shift, shift[..., :1].expand_as(shift), atol=2e-3, rtol=0)
    assert after.isfinite().all() or (after[..., BASE:].isneginf()).all()


@pytest.mark.parametrize("method", [LogisticRegression(), ClassMeans(), FedAvgProbe()], ids=name)
def test_who_knows_classes_by_images_alone_answers_none_that_it_has_not_seen(narrow, wide, method):
    federation = trained(narrow, method)
    images = federation.data.test_features
    among_new, among_all = answers(Models.of(federation), images, [slice(BASE, 6), slice(0, 6)], wide)
    assert (among_new == NO_ANSWER).all() and (among_all < BASE).all()


def test_without_experts_and_gate_a_new_class_scores_as_its_prompt_alone(narrow, wide):
    federation = trained(narrow, PFedMoAP(**SMALL_GATE | {"experts": 0}), rounds=1)  # one round: no gate is trained yet
    images = federation.data.test_features
    for client, got in enumerate(scores(federation, images, wide)):
        prompt = federation.personal[client]["prompt"]
        expected = wide.logit_scale * images @ wide.text(prompt[None])[0].T
        torch.testing.assert_close(got, expected)


def test_a_new_class_is_scored_by_the_clients_own_prompt_gate_and_experts(narrow, wide):
    federation = trained(narrow, PFedMoAP(**SMALL_GATE))
    images, method = federation.data.test_features, federation.method
    for client, got in enumerate(scores(federation, images, wide)):
        own = federation.personal[client]
        lent = torch.stack([federation.server.pool[other] for other in federation.server.pool.nearest(client, 2)])
        text = wide.text(torch.cat([own["prompt"][None], lent]))  # (1+K, C, d)
        gate = {key: value[None] for key, value in gating.gate_of(own).items()}
        mixed, _ = gating.attend(gate, images[None, :, ::2], text[None, ..., ::2], torch.ones(1, 3, dtype=torch.bool),
                                 heads=4, scale=method.attention_scale)
        match = torch.einsum("bg,bcg->bc", images[:, ::2], mixed[0])
        expected = wide.logit_scale * match + method.lam * wide.logit_scale * images @ text[0].T
        torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-4)


def test_two_clients_by_hand(narrow, wide):
    """Zero-shot on axes: an image that points at class c is answered c where it may be, else the next nearest."""
    axes = torch.eye(6)
    context = replace(wide, handwritten=axes, logit_scale=1.0)
    base = replace(narrow, handwritten=axes[:BASE], logit_scale=1.0)
    near = [(0, 5), (1, 4), (3, 0), (4, 1), (5, 4), (2, 4)]  # what each test image shows most, and second most
    images = torch.stack([axes[first] + 0.5 * axes[second] for first, second in near])
    labels = np.array([0, 1, 2, 4, 4, 5])  # wrong among all classes: the 3rd, the 5th and the 6th
    data = FederatedData(axes[None, :BASE], torch.arange(BASE), images, torch.from_numpy(labels),
                         [np.array([0, 1]), np.array([2, 3])], [np.array([0, 1]), np.array([2])])
    federation = Federation(ZeroShot(), Plan(1, 1.0, RECIPE), data, base)
    found = base_new.examine(federation, images, labels, list(data.test_rows), BASE, context)["accuracies"]
    assert found == {
        "local": [1.0, 0.0],  # the first client's two are right, the second's one is not
        "base": pytest.approx([2 / 3] * 2),
        "new": pytest.approx([1 / 3] * 2),  # 4 is right; 5 rather than 4 is wrong; 4 rather than 5, too
        "base_among_all": pytest.approx([2 / 3] * 2),
        "new_among_all": pytest.approx([1 / 3] * 2),
    }
    assert harmonic_mean([0.5, 2 / 3, 1 / 3]) == pytest.approx(3 / (2 + 1.5 + 3)) and harmonic_mean([1.0, 0.0]) == 0.0


def test_the_gates_worth_is_told_from_the_prompts(narrow, wide):
    federation = trained(narrow, PFedMoAP(**SMALL_GATE))
    images, labels = federation.data.test_features, federation.data.test_labels.numpy()
    own = list(federation.data.test_rows)
    found = base_new.examine(federation, images, labels, own, BASE, wide)
    prompts = Federation(PromptFL(), federation.plan, federation.data, narrow)
    for client in range(3):
        prompts.server.shared = {"prompt": federation.personal[client]["prompt"]}
        alone = base_new.examine(prompts, images, labels, own, BASE, wide)["accuracies"]
        assert all(alone[measure][client] == found["without_gate"][measure][client] for measure in base_new.MEASURES)
    assert set(found["accuracies"]) == set(base_new.MEASURES)


@pytest.mark.parametrize("method", ["pfedmoap", "logistic_regression"])
def test_a_run_stores_it_and_its_local_accuracy_is_the_papers(tmp_path, method):
    experiment = from_profile("animals", build_method(method), "smoke", evaluate="base_new", seed=3)
    record = run(experiment, Place(), progress=False)
    assert record["beyond"]["accuracies"]["local"] == pytest.approx(record["rounds"][-1]["accuracies"])
    assert record["beyond"]["classes"] == {"base": 10, "new": 10} and record["data"]["classes"] == 10
    assert "beyond" not in run(replace(experiment, evaluate="local"), Place(), progress=False)


def test_a_new_name_that_is_too_long_stops_a_run_before_it_trains(tmp_path):
    images = [f"{name}/{image}.png" for name in ("ant", "bee", "cat", "yak") for image in range(6)]
    write_images(tmp_path, images)
    long = "yak" + " very" * 80
    lines = [f"{image},{long if 'yak' in image else image.split('/')[0]}" for image in images]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *lines]))
    run_of = from_profile("folders", PromptFL(), "smoke", evaluate="base_new", clients=2)
    with pytest.raises(UserError, match="yak very.*tokens"):
        prepare(run_of, Place(data_root=str(tmp_path / "list.csv"), cache=str(tmp_path / "cache")))


def test_clients_that_own_new_classes_alone_are_told_what_is_dealt(tmp_path):
    for client, classes in (("ann", ("ant", "bee")), ("bob", ("cat", "dog"))):
        write_classes(tmp_path / "clients" / client, dict.fromkeys(classes, 6))
    run_of = from_profile("folders", PromptFL(), "smoke", evaluate="base_new", clients=2, partition="given")
    with pytest.raises(UserError, match="Of what evaluate base_new leaves for training: 'bob' has no training images"):
        prepare(run_of, Place(data_root=str(tmp_path), cache=str(tmp_path / "cache")))
