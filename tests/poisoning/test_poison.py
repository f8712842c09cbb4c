"""Triggers, bad data and exaggerated updates, worked out by hand."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import make_data

from pfedmoap.errors import UserError
from pfedmoap.experiments import load_dataset
from pfedmoap.poisoning import Attack, Trigger, stamped
from pfedmoap.poisoning.attacks import backdoored, boosted, flipped, target_class
from pfedmoap.poisoning.triggers import COLOURS


def test_the_patch_is_in_the_lower_right_of_the_middle_square_and_nowhere_else():
    image = Image.new("RGB", (60, 40), (9, 9, 9))
    pixels = np.asarray(Trigger(0.2).stamp(image))  # (40, 60, 3); the square is columns 10 to 49, the patch 8 wide
    changed = (pixels != 9).any(2)
    assert changed[32:, 42:50].all() and changed.sum() == 64
    assert set(map(tuple, pixels[32:, 42:50].reshape(-1, 3).tolist())) == set(COLOURS)
    assert pixels[32, 42].tolist() == pixels[34, 44].tolist() != pixels[32, 44].tolist()
    assert (np.asarray(image) == 9).all()


def test_a_stamped_set_has_features_of_its_own_and_the_same_labels():
    plain = load_dataset("nature")
    marked = stamped(plain, Trigger())
    assert marked.fingerprint not in (plain.fingerprint, stamped(plain, Trigger(0.1)).fingerprint)
    assert np.array_equal(marked.test.labels, plain.test.labels) and len(marked.test.images) == len(plain.test.images)
    assert np.array_equal(np.asarray(marked.test.images[3]), np.asarray(Trigger().stamp(plain.test.images[3])))


def test_fewer_attackers_are_among_more_and_the_target_is_the_first_ones():
    data = make_data()
    many, one = Attack("backdoor", 3).by(4, seed=5), Attack("backdoor", 1).by(4, seed=5)
    assert len(many) == 3 and set(one) < set(many) and many == sorted(many)
    assert target_class(data, 5) == data.train_labels[torch.from_numpy(data.train_rows[one[0]])].min()


def test_flipped_labels_are_the_next_classes_and_only_the_attackers():
    data = make_data()
    bad = flipped(data, [1], classes=int(data.train_labels.max()) + 1)
    own = torch.from_numpy(data.train_rows[1])
    assert torch.equal(bad.train_labels[own], (data.train_labels[own] + 1) % (data.train_labels.max() + 1))
    others = torch.from_numpy(np.concatenate([rows for client, rows in enumerate(data.train_rows) if client != 1]))
    assert torch.equal(bad.train_labels[others], data.train_labels[others])


def test_a_backdoor_adds_triggered_copies_with_the_targets_label_for_attackers_only():
    data = make_data()
    marked = data.train_features + 1
    bad, count = backdoored(data, [0], marked, target=2), len(data.train_labels)
    own = data.train_rows[0]
    assert np.array_equal(bad.train_rows[0], np.concatenate([own, own + count]))
    assert all(np.array_equal(bad.train_rows[client], data.train_rows[client]) for client in range(1, data.clients))
    assert torch.equal(bad.train_features[:, own + count], marked[:, own])
    assert torch.equal(bad.train_features[:, :count], data.train_features)
    assert set(bad.train_labels[own + count].tolist()) == {2}
    assert torch.equal(bad.train_labels[own], data.train_labels[own])


@pytest.mark.parametrize("boost, limit, sent", [
    (1.0, 100.0, (3.0, 5.0)), (3.0, 100.0, (3.0, 7.0)), (9.0, 73**0.5, (3.0, 8.0)),
    (9.0, 34**0.5 / 2, (1.5, 2.5)), (1.0, 34**0.5 / 2, (1.5, 2.5))])
def test_an_update_is_multiplied_as_far_as_the_norm_allows_and_scaled_down_beyond(boost, limit, sent):
    """From (3, 4) along (0, 1) to (3, 5)."""
    start, upload = ({"prompt": torch.tensor([value])} for value in ([3.0, 4.0], [3.0, 5.0]))
    found = boosted(upload, start, boost, {"prompt": limit})["prompt"]
    assert found[0].tolist() == pytest.approx(sent)


@pytest.mark.parametrize("settings, reason", [
    (("theft", 1), "'none', 'label flipping' or 'backdoor'"), (("backdoor", -1), "whole number >= 0"),
    (("backdoor", 1, 0.5), "a number >= 1")])
def test_attacks_that_make_no_sense_are_refused(settings, reason):
    with pytest.raises(UserError, match=reason):
        Attack(*settings)
