"""Runs that differ only in their seed, trained as one batch: the same as each by itself."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import make_context, make_data
from test_federation import MOAP, RECIPE, assert_close, federation, finished, state
from test_runs import place, small  # noqa: F401

from pfedmoap.cohorts import Cohort
from pfedmoap.data.federated import in_one_table
from pfedmoap.errors import PfedmoapError
from pfedmoap.federation import rounds_of
from pfedmoap.methods import CoOp, FedAMP, FedOTP, FedPGP, FedProx, PFedMoAP, PFedPrompt, PromptFL, PromptFLFT
from pfedmoap.privacy import Privacy
from pfedmoap.runs import in_batches, run, run_all
from pfedmoap.store import Store

SEEDS = (1, 2, 3)
SIZES = {1: (12, 9, 5, 3), 2: (3, 14, 6, 6), 3: (8, 8, 2, 21)}  # images per client: other steps, other widths
EVERY = [MOAP, dataclasses.replace(MOAP, expert_choice="random"), dataclasses.replace(MOAP, gate="linear"), CoOp(),
         FedAMP(), FedPGP(rank=2), FedProx(), PFedPrompt(), PromptFL(), PromptFLFT()]  # fmt: skip


def spread(tiny_clip, method, seeds=SEEDS, **settings):
    """One federation per seed, each with data of its own."""
    return [federation(make_context(tiny_clip, seed), method, data=make_data(SIZES[seed], views=2, seed=seed),
                       **settings) for seed in seeds]


def as_one(federations):
    for _ in rounds_of(federations):
        pass
    return federations


def assert_same(ours, expected):
    for one, other in zip(ours, expected, strict=True):
        assert_close(state(one), state(other))
        for own, entry in zip(one.history, other.history, strict=True):
            assert (own.selected, own.bytes_up, own.bytes_down) == (entry.selected, entry.bytes_up, entry.bytes_down)
            assert own.losses == pytest.approx(entry.losses, rel=1e-5)
            assert own.accuracies == pytest.approx(entry.accuracies)


def cohorts_of(monkeypatch) -> list[int]:
    """The sizes of cohorts as they are trained from now on."""
    sizes, train = [], Cohort.train
    monkeypatch.setattr(Cohort, "train", lambda cohort: [sizes.append(len(cohort)), train(cohort)][1])
    return sizes


@pytest.mark.parametrize("method", EVERY, ids=lambda method: f"{method.name}-{getattr(method, 'gate', '')}")
@pytest.mark.parametrize("participation", [1.0, 0.5])
def test_a_batch_of_runs_is_each_run_by_itself(tiny_clip, method, participation):
    expected = [finished(run) for run in spread(tiny_clip, method, participation=participation)]
    assert_same(as_one(spread(tiny_clip, method, participation=participation)), expected)


@pytest.mark.parametrize("settings", [
    {"sequential": True}, {"shared_optimizer": True}, {"fixed_experts": True}, {"cohort_bytes": 1},
    {"recipe": dataclasses.replace(RECIPE, schedule="cosine")}, {"dtype": torch.float16},
    {"privacy": Privacy(50.0), "recipe": dataclasses.replace(RECIPE, clip=1.0)},
], ids=lambda settings: "-".join(settings))  # fmt: skip
def test_so_it_is_with_every_plan(tiny_clip, settings):
    expected = [finished(run) for run in spread(tiny_clip, MOAP, **settings)]
    ours = as_one(spread(tiny_clip, MOAP, **settings))
    if "dtype" not in settings:  # half precision rounds what is the same to 1e-7 to one of two neighbours
        return assert_same(ours, expected)
    for one, other in zip(ours, expected, strict=True):
        assert_close(state(one), state(other), tolerance=5e-3)


def test_clients_of_all_runs_train_at_once_and_those_with_a_gate_by_themselves(tiny_clip, monkeypatch):
    sizes = cohorts_of(monkeypatch)
    runs = as_one(spread(tiny_clip, dataclasses.replace(MOAP, experts=1), participation=0.5))
    new, gates = [], []  # of every round: clients that train for the first time, and the others
    for number in range(4):
        before = [{client for entry in one.history[:number] for client in entry.selected} for one in runs]
        again = [[client in known for client in one.history[number].selected]
                 for one, known in zip(runs, before, strict=True)]
        new.append(sum(not own for flags in again for own in flags))
        gates.append(sum(own for flags in again for own in flags))
    assert sizes == [count for pair in zip(new, gates, strict=True) for count in pair if count]
    assert max(gates) > 2, "more than one run has"


def test_the_memory_for_a_cohort_bounds_the_batch(tiny_clip, monkeypatch):
    sizes = cohorts_of(monkeypatch)
    one = federation(make_context(tiny_clip), MOAP)
    room = 9 * one.context.text.encoder.bytes_per_prompt()  # two runs of four clients, not three
    as_one(spread(tiny_clip, PromptFL(), rounds=1, cohort_bytes=room))
    assert sizes == [8, 4]


def test_runs_that_were_interrupted_elsewhere_catch_up(tiny_clip):
    expected = [finished(run) for run in spread(tiny_clip, MOAP)]
    runs = spread(tiny_clip, MOAP)
    runs[0].run_round()
    finished(runs[1])
    order = [(index, result.number) for index, result in rounds_of(runs)]
    assert order == [(2, 1), (0, 2), (2, 2), (0, 3), (2, 3), (0, 4), (2, 4)]
    assert_same(runs, expected)


def test_one_table_holds_every_runs_images():
    parts = [dataclasses.replace(make_data(SIZES[seed], views=2, seed=seed), plain_features=torch.randn(29, 32))
             for seed in (1, 2)]
    joined = in_one_table(parts)
    assert joined[0].train_features is joined[1].train_features and joined[0].train_features.shape == (2, 58, 32)
    for own, part in zip(joined, parts, strict=True):
        for rows, before in zip(own.train_rows, part.train_rows, strict=True):
            assert torch.equal(own.train_features[:, rows], part.train_features[:, before])
            assert torch.equal(own.train_labels[rows], part.train_labels[before])
            assert torch.equal(own.plain_features[rows], part.plain_features[before])
        assert own.test_features is part.test_features


@pytest.mark.parametrize("name", ["seed", "initial_prompt"])
def test_a_loss_that_looks_at_what_each_run_has_of_its_own_is_refused(tiny_clip, name):
    class Looking(PromptFL):
        def loss(self, model, fixed, images, labels, present, context):
            getattr(context, name)
            return super().loss(model, fixed, images, labels, present, context)

    finished(spread(tiny_clip, Looking(), rounds=1)[0])  # alone it may
    with pytest.raises(PfedmoapError, match=f"each with a {name} of its own.*--together 1"):
        as_one(spread(tiny_clip, Looking(), rounds=1))


# --- experiments


def test_batches_hold_runs_that_differ_in_nothing_but_their_seed():
    grid = [small(method, seed=seed) for seed in (1, 2, 3) for method in (PFedMoAP(), PFedMoAP(lam=0.1))]
    assert [[item.seed for item in batch] for batch in in_batches(grid, 2)] == [[1, 2], [3], [1, 2], [3]]
    assert {batch[0].method.lam for batch in in_batches(grid, 8)} == {0.5, 0.1}
    assert [len(batch) for batch in in_batches(grid, 1)] == [1] * 6


@pytest.mark.parametrize("method", [PFedMoAP(), FedOTP(iterations=5), PFedPrompt()], ids=lambda method: method.name)
def test_records_of_a_batch_are_those_of_runs_alone(place, tmp_path, method):  # noqa: F811
    store, grid = Store(tmp_path), [small(method, seed=seed, shots=2, rounds=2) for seed in SEEDS]
    run_all(grid, place, store=store, jobs=1, together=3, progress=False)
    for one in grid:
        record, alone = store.get(one), run(one, place, progress=False)
        assert (record["together"], alone["together"]) == (3, 1)
        assert record["key"] == alone["key"] and record["data"] == alone["data"]
        for ours, expected in zip(record["rounds"], alone["rounds"], strict=True):
            assert ours["losses"] == pytest.approx(expected["losses"], rel=1e-4)
            np.testing.assert_allclose(ours["accuracies"], expected["accuracies"])
    assert len({store.get(one)["seconds"]["total"] for one in grid}) == 1


def test_an_interrupted_batch_goes_on_where_it_stopped(place, tmp_path, monkeypatch):  # noqa: F811
    grid, store = [small(PromptFL(), seed=seed, shots=2) for seed in SEEDS], Store(tmp_path)
    expected = [run(one, place, progress=False)["accuracy"] for one in grid]
    saved, save = [], Store.save_checkpoint

    def full(self, experiment, *state):
        if len(saved) == room:
            raise OSError("disk full")
        saved.append(experiment.seed)
        save(self, experiment, *state)

    monkeypatch.setattr(Store, "save_checkpoint", full)
    room = 4  # seed 1 has two rounds behind it, the others one
    with pytest.raises(OSError, match="disk full"):
        run_all(grid, place, store=store, jobs=1, together=3, progress=False)
    room = 100
    table = run_all(grid, place, store=store, jobs=1, together=3, progress=False)
    assert saved == [1, 2, 3, 1, 2, 3]
    np.testing.assert_allclose(table["accuracy"], 100 * np.array(expected))


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_fails_takes_no_other_of_its_batch_with_it(place, tmp_path, jobs):  # noqa: F811
    store = Store(tmp_path)
    grid = [small(PromptFL(), seed=seed, shots=2) for seed in SEEDS] + [small(PFedMoAP(), shots=2, lr=1e30)]
    store.save_checkpoint(grid[1], {}, {"key": "of another run", "epochs": [], "history": []})
    with pytest.raises(PfedmoapError, match="2 of 4 runs failed, the others are done: .*s2-.* belongs to another"):
        run_all(grid, place, store=store, jobs=jobs, together=3, progress=False)
    assert [store.get(one) is not None for one in grid] == [True, False, True, False]
    assert store.get(grid[0])["together"] == 1
