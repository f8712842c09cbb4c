"""From an experiment to a federation: what is left of a data set for those who train and are tested."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pfedmoap.experiments import Experiment, Place, dealt, from_profile, load_dataset, preparation, prepare
from pfedmoap.methods import FedOTP
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


def test_features_of_every_position_are_halved_on_a_gpu_and_nowhere_else(features_cache, monkeypatch):
    table, used = np.random.default_rng(0).normal(size=(3, 5, 4, 8)).astype(np.float32), np.array([4, 0, 2])
    table /= np.linalg.norm(table, axis=-1, keepdims=True)
    held = preparation._in_half(table, used, "cpu")  # as it is done for a GPU
    assert held.dtype == torch.float16 and held.nbytes == table[:, used].nbytes / 2
    torch.testing.assert_close(held.float(), torch.from_numpy(table[:, used]), rtol=2**-11, atol=1e-7)
    monkeypatch.setattr(preparation, "_in_half", lambda *arguments: pytest.fail("halved on a CPU"))
    run = from_profile("digits", FedOTP(), "smoke", clients=2, shots=2)
    assert prepare(run, Place(cache=features_cache)).federation.data.train_features.dtype == torch.float32
