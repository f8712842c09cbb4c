"""Runs that differ only in their seed, trained as one batch: the same as each by itself."""

import dataclasses
import weakref

import numpy as np
import pytest
import torch
from test_federation import MOAP, RECIPE, assert_close, federation, finished, state
from test_runs import place, small  # noqa: F401
from tiny import NAMES, make_context, make_data

from pfedmoap.client import Cohort
from pfedmoap.errors import PfedmoapError, UserError
from pfedmoap.experiments import Place, Store, run, run_all, runs
from pfedmoap.experiments.runs import in_batches
from pfedmoap.experiments.seeds import in_one_table, rounds_of
from pfedmoap.methods import (
    CLAP,
    ClassMeans,
    CoOp,
    FedAMP,
    FedAvgProbe,
    FedOTP,
    FedPGP,
    FedProx,
    LogisticRegression,
    PFedMoAP,
    PFedPrompt,
    PromptFL,
    PromptFLFT,
    TipAdapter,
    TipAdapterF,
    ZeroShot,
)
from pfedmoap.privacy import Privacy
from pfedmoap.prompts import PromptEncoder, TextFeatures
from pfedmoap.released import released

SEEDS = (1, 2, 3)
SIZES = {1: (12, 9, 5, 3), 2: (3, 14, 6, 6), 3: (8, 8, 2, 21)}  # images per client: other steps, other widths
EVERY = [MOAP, dataclasses.replace(MOAP, expert_choice="random"), dataclasses.replace(MOAP, gate="linear"), CoOp(),
         FedAMP(), FedPGP(rank=2), FedProx(), PFedPrompt(), PromptFL(), PromptFLFT(), LogisticRegression(),
         ClassMeans(), TipAdapter(), TipAdapterF(key_steps=5), CLAP(probe_steps=5), FedAvgProbe()]  # fmt: skip


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
    {"protocol": released("round_order")}, {"protocol": released("optimizer")}, {"cohort_bytes": 1},
    {"protocol": released("expert_selection")}, {"protocol": released("precision")},
    {"recipe": dataclasses.replace(RECIPE, schedule="cosine")},
    {"privacy": Privacy(50.0), "recipe": dataclasses.replace(RECIPE, clip=1.0)},
], ids=lambda settings: "-".join(map(str, settings.values()))[:30])  # fmt: skip
def test_so_it_is_with_every_plan(tiny_clip, settings):
    expected = [finished(run) for run in spread(tiny_clip, MOAP, **settings)]
    ours = as_one(spread(tiny_clip, MOAP, **settings))
    if settings.get("protocol") != released("precision"):  # which rounds what is the same to 1e-7 to two neighbours
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
    assert sizes == [count for pair in zip(gates, new, strict=True) for count in pair if count]
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


def test_what_is_not_the_same_in_all_runs_keeps_them_apart(tiny_clip, monkeypatch):
    """The protocol switch `class_names`, shuffled by seed."""
    def shuffled():
        for one, names in zip(spread(tiny_clip, PromptFL()), (NAMES, NAMES[::-1], NAMES), strict=True):
            one.context = dataclasses.replace(one.context, text=TextFeatures(PromptEncoder(tiny_clip, names)))
            yield one

    expected = [finished(run) for run in shuffled()]
    sizes = cohorts_of(monkeypatch)
    assert_same(as_one(list(shuffled())), expected)
    assert sizes == [8, 4] * 4 or sizes == [4, 8] * 4


def test_the_released_fedprox_is_promptfl_in_a_batch_too(tiny_clip):
    runs = spread(tiny_clip, FedProx(), protocol=released("fedprox_gradient"))
    for ours, expected in zip(as_one(runs), as_one(spread(tiny_clip, PromptFL())), strict=True):
        assert_close(state(ours), state(expected), tolerance=1e-7)


def test_a_run_that_was_restored_trains_together_with_a_fresh_one(tiny_clip, monkeypatch):
    first = spread(tiny_clip, MOAP, seeds=(1, 2))
    for one in first:
        one.run_round(), one.run_round()
    second = spread(tiny_clip, MOAP, seeds=(1, 2))
    tensors, plain = first[0].snapshot()
    second[0].restore(dict(sorted(tensors.items())), plain)  # as a file has them
    second[1] = first[1]
    sizes = cohorts_of(monkeypatch)
    as_one(second)
    assert sizes == [8, 8]


def test_a_fixed_tensor_without_a_row_per_client_is_refused(tiny_clip):
    class Broadcasting(PromptFL):
        def fixed(self, model, downloads, context, cached=None):
            return {"bias": torch.zeros(1, 1, len(NAMES))}

    finished(spread(tiny_clip, Broadcasting(), rounds=1)[0])  # alone it may
    with pytest.raises(PfedmoapError, match="PromptFL's 'bias' has 3 rows for 12 clients of 3 runs"):
        as_one(spread(tiny_clip, Broadcasting(), rounds=1))


@pytest.mark.parametrize("name", ["seed", "initial_prompt"])
def test_a_loss_that_looks_at_what_each_run_has_of_its_own_is_refused(tiny_clip, name):
    class Looking(PromptFL):
        def loss(self, model, fixed, images, labels, present, context):
            getattr(context, name)
            return super().loss(model, fixed, images, labels, present, context)

    finished(spread(tiny_clip, Looking(), rounds=1)[0])  # alone it may
    assert not hasattr(spread(tiny_clip, Looking())[0].context.common, name)
    with pytest.raises(PfedmoapError, match=f"each with a {name} of its own.*--seeds-per-batch 1"):
        as_one(spread(tiny_clip, Looking(), rounds=1))


# --- experiments


def test_batches_hold_runs_that_differ_in_nothing_but_their_seed():
    grid = [small(method, seed=seed) for seed in (1, 2, 3) for method in (PFedMoAP(), PFedMoAP(lam=0.1))]
    assert [[item.seed for item in batch] for batch in in_batches(grid, 2, Place())] == [[1, 2], [3], [1, 2], [3]]
    assert {batch[0].method.lam for batch in in_batches(grid, 8, Place())} == {0.5, 0.1}
    assert [len(batch) for batch in in_batches(grid, 1, Place())] == [1] * 6
    spatial = [small(FedOTP(), seed=seed) for seed in range(5)]
    assert [len(batch) for batch in in_batches(spatial, 8, Place())] == [1] * 5
    assert [len(batch) for batch in in_batches(spatial, 8, Place(device="cuda"))] == [3, 2]
    assert [len(batch) for batch in in_batches(spatial, 2, Place(device="cuda"))] == [2, 2, 1]


@pytest.mark.parametrize(("device", "given", "sizes"), [("cpu", None, [1] * 9), ("cuda", None, [8, 1]),
                                                        ("cuda", 1, [1] * 9), ("cpu", 3, [3] * 3)])
def test_seeds_are_one_batch_on_a_gpu_unless_asked_for_otherwise(tmp_path, monkeypatch, device, given, sizes):
    class Looked(Exception):
        pass

    def look(batches, jobs, bar):
        assert [len(batch.experiments) for batch in batches] == sizes
        raise Looked

    monkeypatch.setattr(runs, "_run_batches", look)
    grid = [small(PromptFL(), seed=seed) for seed in range(1, 10)]
    with pytest.raises(Looked):
        run_all(grid, Place(device=device), store=Store(tmp_path), seeds_per_batch=given, progress=False)
    with pytest.raises(UserError, match="seeds_per_batch must be a whole number >= 1, not 0"):
        run_all(grid, Place(device=device), store=Store(tmp_path), seeds_per_batch=0, progress=False)


@pytest.mark.parametrize("method", [PFedMoAP(), CoOp(), PFedPrompt()], ids=lambda method: method.name)
def test_records_of_a_batch_are_those_of_runs_alone(place, tmp_path, method):  # noqa: F811
    store, grid = Store(tmp_path), [small(method, seed=seed, shots=2, rounds=2) for seed in SEEDS]
    run_all(grid, place, store=store, jobs=1, seeds_per_batch=3, progress=False)
    for one in grid:
        record, alone = store.get(one), run(one, place, progress=False)
        assert (record["seeds_per_batch"], alone["seeds_per_batch"]) == (3, 1)
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
        run_all(grid, place, store=store, jobs=1, seeds_per_batch=3, progress=False)
    room = 100
    table = run_all(grid, place, store=store, jobs=1, seeds_per_batch=3, progress=False)
    assert saved == [1, 2, 3, 1, 2, 3]
    np.testing.assert_allclose(table["accuracy"], 100 * np.array(expected))


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_fails_takes_no_other_of_its_batch_with_it(place, tmp_path, jobs):  # noqa: F811
    store = Store(tmp_path)
    grid = [small(PromptFL(), seed=seed, shots=2) for seed in SEEDS] + [small(PFedMoAP(), shots=2, lr=1e30)]
    store.save_checkpoint(grid[1], {}, {"key": "of another run", "epochs": [], "history": []})
    with pytest.raises(PfedmoapError, match="2 of 4 runs failed, the others are done: .*s2-.* belongs to another"):
        run_all(grid, place, store=store, jobs=jobs, seeds_per_batch=3, progress=False)
    assert [store.get(one) is not None for one in grid] == [True, False, True, False]
    assert store.get(grid[0])["seeds_per_batch"] == 1


class Held:
    """What a run has in memory."""


def test_a_batch_for_which_there_is_too_little_memory_runs_one_by_one(place, tmp_path, monkeypatch, caplog):  # noqa: F811
    store, grid, run_alone = Store(tmp_path), [small(PromptFL(), seed=seed, shots=2) for seed in SEEDS], runs._run
    held = []

    def scarce(experiments, *arguments):
        if len(experiments) > 1:
            tables = Held()
            held.append(weakref.ref(tables))
            raise torch.OutOfMemoryError("CUDA out of memory")
        assert all(one() is None for one in held), "memory was not given back"
        if experiments[0].seed == 2:
            tables = Held()
            held.append(weakref.ref(tables))
            try:
                raise OSError("no space left on device")
            except OSError as error:
                raise UserError("the disk is full") from error
        return run_alone(experiments, *arguments)

    monkeypatch.setattr(runs, "_run", scarce)
    with pytest.raises(UserError, match="1 of 3 runs failed, the others are done: .*-s2-.*: the disk is full"):
        run_all(grid, place, store=store, jobs=1, seeds_per_batch=3, progress=False)
    assert [(store.get(one) or {}).get("seeds_per_batch") for one in grid] == [1, None, 1] and len(held) == 2
    assert "do not run as one batch, now each by itself: CUDA out of memory" in caplog.text


def test_an_unknown_error_of_one_run_comes_after_the_others_of_its_batch(place, tmp_path):  # noqa: F811
    class Wrong(PromptFL):
        def start(self, download, personal, client, context):
            return {"prompt": [0]} if context.seed == 1 else super().start(download, personal, client, context)

    store, grid = Store(tmp_path), [small(Wrong(), seed=seed, shots=2) for seed in SEEDS]
    with pytest.raises(TypeError):
        run_all(grid, place, store=store, jobs=1, seeds_per_batch=3, progress=False)
    assert [store.get(one) is not None for one in grid] == [False, True, True]


def test_a_full_disk_costs_no_run_that_is_stored(place, tmp_path, monkeypatch):  # noqa: F811
    store, grid, put = Store(tmp_path), [small(PromptFL(), seed=seed, shots=2) for seed in SEEDS], Store.put
    stored = []

    def full(self, experiment, record):
        stored.append(experiment.seed)
        if stored == [1, 2]:
            raise UserError("No space left on device")
        put(self, experiment, record)

    monkeypatch.setattr(Store, "put", full)
    run_all(grid, place, store=store, jobs=1, seeds_per_batch=3, progress=False)
    assert stored == [1, 2, 2, 3]


def test_runs_that_another_process_is_at_are_left_to_it_and_waited_for(place, tmp_path):  # noqa: F811
    store, grid = Store(tmp_path), [small(PromptFL(), seed=seed, shots=2) for seed in SEEDS]
    batch = runs.Batch(tuple(grid), place, str(tmp_path))
    with store.claim(grid[1]):
        busy, failed = runs._work(batch, lambda: None, wait=False)
        assert busy == (grid[1],) and not failed
        assert [store.get(one) is not None for one in grid] == [True, False, True]
    assert runs._work(batch._replace(experiments=busy), lambda: None, wait=True) == ((), [])
    assert store.get(grid[1])["seeds_per_batch"] == 1


def test_processes_claim_a_batch_in_one_order_so_that_none_waits_for_ever(place, tmp_path, monkeypatch):  # noqa: F811
    claimed, claim = [], Store.claim
    monkeypatch.setattr(Store, "claim", lambda self, one, wait=False: [claimed.append(one), claim(self, one, wait)][1])
    grid = [small(ZeroShot(), seed=seed) for seed in range(1, 6)]
    for order in (grid, grid[::-1]):
        runs._work(runs.Batch(tuple(order), place, str(tmp_path)), lambda: None, wait=True)
    assert claimed[:5] == claimed[5:] and set(claimed) == set(grid)
