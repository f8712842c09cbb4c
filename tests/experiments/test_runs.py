"""Whole runs on the embedded CLIP and data: records, resume, kills, many processes on one store."""

import dataclasses
import json

import numpy as np
import open_clip
import pytest
import torch

from pfedmoap.errors import PfedmoapError, UserError
from pfedmoap.experiments import Experiment, Place, Store, frame, from_profile, prepare, reasons, run, run_all
from pfedmoap.methods import CoOp, FedOTP, FedPer, PFedMoAP, PFedPrompt, PromptFL, ZeroShot, ZeroShotPrior


@pytest.fixture(scope="module")
def place(features_cache) -> Place:
    return Place(cache=features_cache)


def small(method=PFedMoAP(), **overrides) -> Experiment:
    return from_profile("digits", method, "smoke", **{"rounds": 3, "shots": 8} | overrides)


def results(record):
    """What must not depend on when, where or how often a run was cut."""
    timeless = [{name: value for name, value in entry.items() if name != "seconds"} for entry in record["rounds"]]
    return record["key"], record["accuracy"], record["accuracy_last5"], timeless


def test_a_record_says_everything_about_its_run(place, tmp_path):
    one = small()
    record = run(one, place, store=Store(tmp_path), progress=False)
    assert Experiment.from_dict(record["experiment"]) == one and record["key"] == one.key
    assert [entry["number"] for entry in record["rounds"]] == [1, 2, 3]
    last = record["rounds"][-1]
    assert len(last["accuracies"]) == one.clients and record["accuracy"] == pytest.approx(np.mean(last["accuracies"]))
    assert record["accuracy_last5"] == pytest.approx(np.mean([entry["accuracy"] for entry in record["rounds"]]))
    assert all(0 <= accuracy <= 1 for accuracy in last["accuracies"])
    assert len(last["losses"]) == len(last["bytes_up"]) == len(last["bytes_down"]) == one.clients
    assert record["data"]["train_images"] == [8 * 2] * 5 and record["data"]["classes"] == 10
    assert record["clip"]["fingerprint"] and record["data"]["fingerprint"] and record["versions"]["torch"]
    assert record["machine"].endswith(" cores")  # on a CPU
    assert record["seconds"]["total"] > record["seconds"]["prepare"] > 0
    assert Store(tmp_path).get(one) == run(one, place, store=Store(tmp_path), progress=False)


@pytest.mark.parametrize("method", [ZeroShot(), CoOp(), PromptFL(), PFedMoAP()], ids=lambda method: method.name)
def test_a_run_cut_after_any_round_resumes_to_the_same_record(place, tmp_path, method):
    class Cut(Exception):
        pass

    def cut_at(number):
        def stop(result):
            if result.number == number:
                raise Cut
        return stop

    one = small(method)
    whole = run(one, place, progress=False)
    store = Store(tmp_path)
    for number in (2, 3):  # cut twice, one round further each time
        with pytest.raises(Cut):
            run(one, place, store=store, progress=False, on_round=cut_at(number))
    seen = []
    resumed = run(one, place, store=store, progress=False, on_round=lambda result: seen.append(result.number))
    assert results(resumed) == results(whole)
    assert seen[0] > 1, "it started again"
    assert [path.suffix for path in sorted(tmp_path.iterdir()) if path.name != ".lock"] == [".json"]


def test_a_checkpoint_of_another_experiment_is_refused(place, tmp_path):
    store, one = Store(tmp_path), small(PromptFL())
    store.save_checkpoint(one, {}, {"key": "0123", "data": "", "clip": ""})
    with pytest.raises(UserError, match="belongs to another experiment.*delete it"):
        run(one, place, store=store, progress=False)


def test_a_run_of_a_narrow_clip_is_computed_on_one_thread_and_a_wide_one_on_those_there_are(place, monkeypatch):
    found, several = [], 3
    before = torch.get_num_threads()
    torch.set_num_threads(several)
    try:
        run(small(), place, progress=False, on_round=lambda _: found.append(torch.get_num_threads()))
        assert set(found) == {1} and torch.get_num_threads() == several
        monkeypatch.setattr("pfedmoap.experiments.runs.WIDE", 1)
        run(small(), place, progress=False, on_round=lambda _: found.append(torch.get_num_threads()))
        assert found[-1] == several
    finally:
        torch.set_num_threads(before)


def test_run_all_runs_what_is_missing_and_returns_one_row_each(place, tmp_path):
    store = Store(tmp_path)
    grid = [small(method, seed=seed) for method in (PromptFL(), PFedMoAP()) for seed in (1, 2)]
    alone = [results(run(one, place, progress=False)) for one in grid]
    run(grid[2], place, store=store, progress=False)
    written = store.path(grid[2]).stat().st_mtime_ns
    table = run_all(grid + grid[:1], place, store=store, jobs=2, progress=False)
    assert store.path(grid[2]).stat().st_mtime_ns == written
    assert list(table["key"]) == [one.key for one in grid]
    assert list(table["method"]) == ["promptfl", "promptfl", "pfedmoap", "pfedmoap"]
    assert table["method.lam"].isna().tolist() == [True, True, False, False]
    assert [results(store.get(one)) for one in grid] == alone
    np.testing.assert_allclose(table["accuracy"], [100 * result[1] for result in alone])


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failing_run_is_reported_after_the_others_are_done(place, tmp_path, jobs):
    store = Store(tmp_path)
    broken = small(PFedMoAP(), seed=1, lr=1e30)
    grid = [broken, small(PromptFL()), small(ZeroShot())]
    with pytest.raises(PfedmoapError, match=r"1 of 3 runs failed, the others are done: .*became (nan|inf)"):
        run_all(grid, place, store=store, jobs=jobs, progress=False)
    assert [store.get(one) is not None for one in grid] == [False, True, True]


def test_a_reason_is_told_once_with_the_runs_that_it_concerns(place, tmp_path):
    grid = [small(method, seed=seed, clients=11) for method in (ZeroShot(), PromptFL()) for seed in (1, 2, 3)]
    with pytest.raises(UserError) as refused:
        run_all(grid, place, store=Store(tmp_path), jobs=1, progress=False)
    assert str(refused.value) == (f"6 of 6 runs failed: {grid[0].label} and 5 more: 10 classes cannot be dealt to 11 "
                                  "clients: use at most 10 clients")
    failed = [(grid[0], UserError("one")), (grid[1], UserError("two")), (grid[2], UserError("one"))]
    assert reasons(failed) == f"{grid[0].label} and 1 more: one; {grid[1].label}: two" and reasons([]) == ""


@pytest.mark.parametrize(("change", "message"), [
    ({"dataset": "no_such_set"}, "no_such_set"),
    ({"dataset": "caltech101"}, "--data-root"),
    ({"clients": 11}, "10 classes cannot be dealt to 11 clients"),
    ({"model": "RN51"}, "RN51"),
    ({"method": PFedMoAP(d_gating=96)}, "d_gating 96"),
    ({"method": FedPer(shared_tokens=5)}, "cannot share 5 of 4"),
    ({"context_tokens": 38}, "class name"),
    ({"partition": "domain_dirichlet"}, "no domains"),
])
def test_what_cannot_run_is_refused_in_one_sentence_before_any_work(place, change, message, monkeypatch):
    monkeypatch.setattr("pfedmoap.experiments.preparation.image_features", None)  # not even features are computed
    with pytest.raises(UserError, match=message):
        run(dataclasses.replace(small(), **change), place, progress=False)


@pytest.fixture(scope="module")
def small_resnet(tmp_path_factory) -> dict[str, str]:
    """A ResNet CLIP with 16 image positions at random weights."""
    folder = tmp_path_factory.mktemp("resnet")
    vision = {"image_size": 128, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "patch_size": None}
    text = {"context_length": 40, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
    (folder / "Small-RN.json").write_text(json.dumps({"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    torch.save(open_clip.create_model("Small-RN", pretrained_text=False).state_dict(), folder / "weights.pt")
    return {"model": "Small-RN", "weights": str(folder / "weights.pt")}


@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_fedotp_runs_on_the_spatial_features_of_both_kinds_of_tower(place, small_resnet, tower):
    settings = {} if tower == "vit" else small_resnet
    record = run(small(FedOTP(), rounds=2, shots=2, **settings), place, progress=False)
    assert len(record["rounds"]) == 2 and all(loss > 0 for loss in record["rounds"][1]["losses"].values())


@pytest.mark.parametrize("method", [PFedPrompt(), ZeroShotPrior()], ids=lambda method: method.name)
def test_methods_that_remember_images_see_them_unaugmented(place, method):
    federation = prepare(small(method), place).federation
    assert torch.equal(federation.data.plain_features, federation.data.train_features[0])  # digits have no augmentation
    assert prepare(small(), place).federation.data.plain_features is None


def test_privacy_is_in_the_record(place):
    record = run(small(PromptFL(), epsilon=50.0, rounds=1), place, progress=False)
    assert record["experiment"]["epsilon"] == 50.0 and record["experiment"]["delta"] == 0.05
    assert len(record["rounds"][0]["sigmas"]) == 5 and min(record["rounds"][0]["sigmas"].values()) > 0
    without = run(small(PromptFL(), epsilon=None, clip=1e-9, rounds=1), place, progress=False)
    plain = run(small(PromptFL(), rounds=1), place, progress=False)  # the other settings of privacy have no effect
    assert results(without)[1:] == results(plain)[1:] and without["rounds"][0]["sigmas"] == {}
    assert results(record)[1:] != results(plain)[1:]


def test_a_method_written_in_a_notebook_runs_in_this_process(place, tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Mine(PromptFL):
        name = "mine"

    Mine.__module__ = "__main__"
    table = run_all([small(Mine(), rounds=1)], place, store=Store(tmp_path), jobs=2, progress=False)
    assert list(table["method"]) == ["mine"]


def test_frames_hold_percent(place):
    record = run(small(PromptFL()), place, progress=False)
    row = frame([record]).iloc[0]
    assert row["accuracy"] == pytest.approx(100 * record["accuracy"])
    assert row["worst_client"] == pytest.approx(100 * min(record["rounds"][-1]["accuracies"]))
