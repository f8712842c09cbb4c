"""Clients that join after training, and domains that nobody trained on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_federation import RECIPE, assert_equal, state
from test_limits import SMALL_GATE, name
from tiny import make_data

from pfedmoap.beyond import new_clients, unseen_domain
from pfedmoap.evaluation import evaluate, evaluate_models
from pfedmoap.experiments import dealt, from_profile, load_dataset, run
from pfedmoap.federation import Federation, Plan
from pfedmoap.methods import ClassMeans, FedAMP, FedPGP, PFedMoAP, PromptFL, TipAdapter, ZeroShot

PLAN = Plan(2, 1.0, replace(RECIPE, epochs=2))
NEW = [2, 3]  # of the four clients


def joined(context, method, data=None) -> tuple[Federation, Federation, dict]:
    """Two clients train, the other two join."""
    data = data or make_data(train_sizes=(12, 9, 8, 6))
    first = replace(data, train_rows=data.train_rows[:2], test_rows=data.test_rows[:2])
    federation, late = Federation(method, PLAN, first, context), Federation(method, PLAN, data, context)
    for _ in federation.rounds():
        pass
    return federation, late, new_clients.examine(federation, late, NEW)


@pytest.mark.parametrize("method", [PromptFL(), PFedMoAP(**SMALL_GATE), FedAMP(), FedPGP(), TipAdapter()], ids=name)
def test_cold_is_what_is_downloaded_and_nothing_changes_for_the_others(context, method):
    federation, late, found = joined(context, method)
    before = state(federation)
    assert found["accuracies"].keys() == {"cold"} and len(found["accuracies"]["cold"]) == 2
    assert_equal(state(federation), before)
    assert_equal(late.server.shared, federation.server.shared)
    assert set(federation.server.pool.entries) <= {0, 1}
    nobody = replace(late.data, train_rows=[rows[:0] for rows in late.data.train_rows])
    lent = {client: method.download(federation.server, client) for client in NEW}
    tested = {client: method.tested(lent[client], {}, client, context) for client in NEW}
    assert found["accuracies"]["cold"] == evaluate_models(method, tested, lent, nobody, context).accuracies


def test_local_training_of_promptfl_is_one_more_round_of_the_newcomer_alone(context):
    federation, late, found = joined(context, PromptFL())
    assert sorted(found["curves"]) == ["epochs", "images"] and sorted(found["curves"]["epochs"]) == [1, 2]
    for place, client in enumerate(NEW):
        again = Federation(PromptFL(), PLAN, late.data, context)
        again.server.shared = dict(federation.server.shared)
        (update,) = again.train(again.downloads([client]), federation.server.round)
        again.server.shared = update.upload
        assert found["curves"]["epochs"][2][place] == evaluate(PromptFL(), again.server, again.personal, late.data,
                                                               context).accuracies[client]


@pytest.mark.parametrize("method", [PromptFL(), PFedMoAP(**SMALL_GATE), ClassMeans(), ZeroShot()], ids=name)
def test_all_images_are_the_usual_training(context, method):
    _, late, found = joined(context, method)
    labels = late.data.train_labels.numpy()
    most = max(np.bincount(labels[late.data.train_rows[client]]).max() for client in NEW)
    assert sorted(found["curves"]["images"]) == [1, 2, 4, 8, 16] and most < 8
    assert found["curves"]["images"][8] == found["curves"]["images"][16] == found["curves"]["epochs"][2]
    all_of_them = new_clients._with_images(late.data, NEW, most)
    assert all(np.array_equal(all_of_them.train_rows[client], late.data.train_rows[client]) for client in NEW)


def test_who_learns_nothing_has_a_flat_curve_and_without_images_class_means_answer_nothing(context):
    _, _, found = joined(context, ZeroShot())
    assert {tuple(values) for values in found["curves"]["epochs"].values()} == {tuple(found["accuracies"]["cold"])}
    _, _, found = joined(context, ClassMeans())
    assert found["accuracies"]["cold"] == [0.0, 0.0] and np.mean(found["curves"]["epochs"][1]) > 0


def test_pfedmoap_borrows_from_the_pool_with_a_fresh_gate(context):
    method = PFedMoAP(**SMALL_GATE)
    federation, late, found = joined(context, method)
    assert sorted(found["curves"]["experts"]) == [0, 1, 2]
    assert sorted(late.server.pool.entries) == [0, 1, 2, 3]  # the late federation's own, as each has uploaded once
    lent = {client: late.downloads([client])[client] for client in NEW}
    assert all(own["experts"].shape[0] == 2 for own in lent.values())
    untrained = {client: late.start(client, own) for client, own in lent.items()}
    for client, model in untrained.items():
        assert torch.equal(model["prompt"], federation.server.shared["prompt"])
        assert torch.equal(model["gate.query.weight"], method._initial_gate(client, context)["gate.query.weight"])
    expected = evaluate_models(method, untrained, lent, late.data, context).accuracies
    assert found["curves"]["experts"][0] == expected


def test_fewer_images_are_the_first_of_each_class():
    data = replace(make_data(), train_labels=torch.tensor([0, 1, 0, 0, 1, 2] + [0] * 23),
                   train_rows=[np.arange(6), np.arange(6, 29)])
    few = new_clients._with_images(data, [0], 1)
    assert few.train_rows[0].tolist() == [0, 1, 5] and len(few.train_rows[1]) == 23
    assert new_clients._with_images(data, [0], 2).train_rows[0].tolist() == [0, 1, 2, 4, 5]


def test_a_run_holds_out_a_share_and_stores_the_curves():
    record = run(from_profile("animals", PFedMoAP(), "smoke", evaluate="new_clients:0.25", clients=8, seed=2),
                 progress=False)
    assert len(record["rounds"][-1]["accuracies"]) == 6 and len(record["beyond"]["accuracies"]["cold"]) == 2
    assert sorted(record["beyond"]["curves"]) == ["epochs", "experts", "images"]
    assert set(record["beyond"]["train_images"]) <= {8, 12}  # two or three classes, four images of each


def test_an_unseen_domain_by_hand(context):
    """Zero-shot on axes: of three images of the domain two are right, for every client."""
    axes = replace(context, handwritten=torch.eye(6, 32), logit_scale=1.0)
    federation = Federation(ZeroShot(), PLAN, make_data(), axes)
    images, labels = torch.eye(6, 32)[[0, 1, 2]], np.array([0, 1, 5])
    assert unseen_domain.examine(federation, images, labels)["accuracies"]["unseen"] == pytest.approx([2 / 3] * 4)


def test_a_run_leaves_a_domain_out():
    one = from_profile("office", PFedMoAP(), "smoke", evaluate="unseen_domain:webcam", clients=3)
    record, whole = run(one, progress=False), load_dataset("office").test
    assert record["beyond"]["images"] == (whole.domains == 1).sum()
    assert len(record["beyond"]["accuracies"]["unseen"]) == 3
    assert record["data"]["test_images"] == [one.test_images] * 3
    everything = np.concatenate(dealt(replace(one, test_images=None), load_dataset("office")).test)
    assert sorted(everything) == np.flatnonzero(whole.domains != 1).tolist()
