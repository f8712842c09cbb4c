"""From an experiment to a federation: what is left of a data set for those who train and are tested."""

from dataclasses import replace

import pytest

from pfedmoap.experiments import Experiment, dealt, load_dataset
from pfedmoap.released import released


@pytest.mark.parametrize("settings", [
    dict(dataset="digits", clients=5), dict(dataset="animals", evaluate="base_new", clients=5),
    dict(dataset="office", clients=8, partition="domain_dirichlet", protocol=released("label_pairing")),
], ids=["plain", "base_new", "mispaired"])
def test_a_client_is_tested_on_some_of_its_images_each_with_its_label(settings):
    imageset, whole = load_dataset(settings["dataset"]), Experiment(**settings)
    everything, less = (dealt(one, imageset) for one in (whole, replace(whole, test_images=3)))
    for client in range(whole.clients):
        assert less.pairs(client) == everything.pairs(client)
        kept, all_of_them = less.pairs(client, "test"), everything.pairs(client, "test")
        assert len(kept) == min(3, len(all_of_them)) and set(kept) <= set(all_of_them)
        assert less.test[client].tolist() == sorted(less.test[client]) or "protocol" in settings
    again = dealt(replace(whole, test_images=3, seed=2), imageset)
    assert [own.tolist() for own in again.test] != [own.tolist() for own in less.test]


def test_what_is_asked_for_beyond_a_clients_images_is_all_of_them():
    imageset, whole = load_dataset("digits"), Experiment(dataset="digits", clients=5)
    everything, as_many = (dealt(one, imageset).test for one in (whole, replace(whole, test_images=10_000)))
    assert [own.tolist() for own in as_many] == [own.tolist() for own in everything]
