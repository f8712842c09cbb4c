"""Tuning: as many tries for every method, chosen on validation draws, never run twice."""

import json

import numpy as np
import pandas as pd
import pytest
from reporting import make_record

from pfedmoap.embedded import photographs
from pfedmoap.errors import UserError
from pfedmoap.experiments import (
    GROUPS,
    TRIES,
    Choices,
    Place,
    Store,
    at_the_edge,
    candidates,
    choose,
    from_profile,
    load_dataset,
    plan_tuning,
    run_tuning,
    runs,
    table1,
    tunable,
    tuned_grids,
    validation_draw,
    write_tuning,
)
from pfedmoap.methods import METHODS, FedProx, PFedMoAP

PROFILES = ("smoke", "quick", "long")


def filled(plan, folder, accuracy) -> Store:
    """A store in which every validation run is done: `accuracy` (0 to 1) by method, data set and try."""
    store = Store(folder)
    for name, column, each, experiments in plan.cells():
        for experiment in experiments:
            store.put(experiment, make_record(experiment, [accuracy(name, column.dataset, each.number)] * 2))
    return store


def made_up(*lines) -> pd.DataFrame:
    return pd.DataFrame(lines, columns=["method", "dataset", "try", "accuracy"])


def test_every_method_of_table_1_that_is_trained_has_the_same_number_of_different_tries():
    assert tunable() == ("coop", "promptfl", "promptfl_ft", "fedper", "fedprox", "fedamp", "pfedprompt", "fedotp",
                         "fedpgp", "pfedmoap")
    for profile in PROFILES:
        plan = plan_tuning(profile)
        for name in tunable():
            tried = {experiments for method, column, _, experiments in plan.cells()
                     if method == name and column == plan.columns[0]}
            assert len(tried) == TRIES == 6, (profile, name)
    assert len(list(plan_tuning("quick"))) == 10 * 5 * 6


@pytest.mark.parametrize("name", tunable())
def test_the_first_try_is_the_papers_setting(name):
    first = candidates(name)[0]
    assert (first.number, first.method, first.rate) == (0, METHODS[name](), 1)


def test_a_try_changes_the_learning_rate_and_the_methods_own_setting_and_nothing_else():
    plan = plan_tuning("quick", ["fedprox"], ["animals"])
    tried = [experiments[0] for *_, experiments in plan.cells()]
    assert [(one.lr, one.method) for one in tried] == [
        (lr, FedProx(mu)) for mu in (0.5, 5.0) for lr in (0.002, 0.0005, 0.008)]
    usual = from_profile("animals-validation", FedProx(), "quick", seed=0).to_dict()
    for one in tried:
        assert {key for key, value in one.to_dict().items() if value != usual[key]} <= {"lr", "method"}


@pytest.mark.parametrize("profile", PROFILES)
def test_tries_see_validation_draws_and_other_seeds_than_the_sets_that_are_reported(profile):
    plan = plan_tuning(profile)
    reported = set(table1(profile))
    assert {one.dataset for one in plan} == {f"{column.dataset}-validation" for column in plan.columns}
    assert not {one.seed for one in plan} & {one.seed for one in reported}
    for column in plan.columns:
        own, draw = load_dataset(column.dataset), load_dataset(validation_draw(column.dataset))
        assert own.fingerprint != draw.fingerprint and own.class_names == draw.class_names
        assert len(draw.train) + len(draw.test) == len(own.train)


def test_no_photograph_of_a_validation_draw_is_a_test_image_of_any_set():
    for folder in photographs.files():
        draw, reported = photographs.divided(folder, True), photographs.divided(folder, False)
        assert not {*draw["train"], *draw["test"]} & set(reported["test"])


def test_the_best_is_chosen_over_all_sets_and_on_each():
    tries = made_up(("a", "x", 0, 50), ("a", "x", 1, 70), ("a", "x", 2, 60),
                    ("a", "y", 0, 50), ("a", "y", 1, 30), ("a", "y", 2, 60))  # means 50, 50, 60
    assert choose(tries) == Choices({"a": 2}, {"a": {"x": 1, "y": 2}})


def test_of_equal_tries_the_papers_setting_is_chosen_then_the_first():
    third = 100 / 3
    tries = made_up(("a", "x", 0, third), ("a", "x", 1, third + 1e-6), ("b", "x", 0, 10), ("b", "x", 1, 20),
                    ("b", "x", 2, 20), ("a", "y", 0, 30), ("a", "y", 1, 30), ("b", "y", 0, 30), ("b", "y", 1, 20),
                    ("b", "y", 2, 20))  # a by rounding only; the means of b are 20, 20, 20
    assert choose(tries) == Choices({"a": 0, "b": 0}, {"a": {"x": 0, "y": 0}, "b": {"x": 1, "y": 0}})


def test_a_planted_better_setting_is_chosen_and_written_with_what_it_rests_on(tmp_path):
    plan = plan_tuning("quick", ["pfedmoap", "coop"], ["nature", "machines"], seeds=(0, 7))
    planted = {("pfedmoap", "nature", 4): 0.9, ("coop", "machines", 2): 0.6}
    store = filled(plan, tmp_path / "records", lambda *cell: planted.get(cell, 0.5))
    tries = run_tuning(plan, store=store, jobs=1, progress=False)
    assert len(tries) == 2 * 2 * 6 and set(tries["seeds"]) == {2}
    chosen = choose(tries)
    assert chosen.once == {"coop": 2, "pfedmoap": 4}
    assert chosen.per_dataset == {"coop": {"nature": 0, "machines": 2}, "pfedmoap": {"nature": 4, "machines": 0}}

    csv, facts = write_tuning(plan, tries, chosen, store, tmp_path)
    pd.testing.assert_frame_equal(pd.read_csv(csv), tries, check_dtype=False)
    told = json.loads(facts.read_text())
    assert told["once"]["pfedmoap"] == {
        "try": 4, "settings": "lr 0.0005, lam 0", "accuracy": 70.0, "accuracy_paper": 50.0}
    assert told["per_dataset"]["coop"]["machines"] == {
        "try": 2, "settings": "lr 0.0005", "accuracy": 60.0, "accuracy_paper": 50.0}
    assert told["chosen_on"] == {"nature": "nature-validation", "machines": "machines-validation"}
    assert told["runs"] == 48 and told["seconds"] == 48 * 3 and told["tries_per_method"] == 6


def test_a_choice_at_the_edge_of_what_was_tried_is_told():
    plan = plan_tuning("quick", ["coop", "promptfl", "fedprox", "pfedmoap"])  # rates 1/8 to 4, and 1/4 to 4
    chosen = Choices({"coop": 1, "promptfl": 2, "fedprox": 5, "pfedmoap": 3}, {})
    assert [plan.tries[name][number].rate for name, number in chosen.once.items()] == [1 / 8, 1 / 4, 4, 1]
    assert at_the_edge(plan, chosen) == ("coop", "fedprox")


def test_what_is_reported_is_on_the_sets_themselves_with_the_profiles_seeds():
    plan = plan_tuning("quick", ["pfedmoap"], ["nature", "machines"])
    grids = tuned_grids(plan, Choices({"pfedmoap": 2}, {"pfedmoap": {"nature": 0, "machines": 5}}))
    assert list(grids) == list(GROUPS) and set(grids["paper"]) <= set(table1("quick"))

    def of(group, column):
        runs = grids[group].cells["pFedMoAP", column]
        assert [run.seed for run in runs] == [1, 2, 3]
        return runs[0].dataset, runs[0].lr, runs[0].method

    assert of("once", "Flowers102") == ("nature", 0.008, PFedMoAP())
    assert of("once", "DTD") == ("machines", 0.008, PFedMoAP())
    assert of("per_dataset", "Flowers102") == ("nature", 0.002, PFedMoAP())
    assert of("per_dataset", "DTD") == ("machines", 0.008, PFedMoAP(lam=0.0))


def test_the_papers_settings_of_every_method_are_runs_of_table_1():
    plan = plan_tuning("quick")
    nothing = Choices(dict.fromkeys(tunable(), 0),
                      {name: {column.dataset: 0 for column in plan.columns} for name in tunable()})
    grids = tuned_grids(plan, nothing)
    assert len(set(grids["paper"])) == 10 * 5 * 3 and set(grids["paper"]) <= set(table1("quick"))
    assert grids["paper"].cells == grids["once"].cells == grids["per_dataset"].cells


def test_nothing_is_run_twice(tmp_path, features_cache, monkeypatch):
    ran = []
    real = runs._run
    monkeypatch.setattr(runs, "_run", lambda experiments, *rest: ran.extend(experiments) or real(experiments, *rest))
    plan = plan_tuning("smoke", ["promptfl"], ["nature"], rounds=1, local_epochs=1, shots=1)
    place, store = Place(cache=features_cache), Store(tmp_path)
    wanted = list(plan)
    store.put(wanted[2], make_record(wanted[2], [0.25, 0.75]))
    first = run_tuning(plan, place, store=store, jobs=1, progress=False)
    assert sorted(one.key for one in ran) == sorted(one.key for one in wanted if one != wanted[2])
    assert first["accuracy"][2] == pytest.approx(50) and np.isfinite(first["accuracy"]).all()
    ran.clear()
    pd.testing.assert_frame_equal(run_tuning(plan, place, store=store, jobs=1, progress=False), first)
    assert ran == []


@pytest.mark.parametrize(("arguments", "message"), [
    ({"methods": ["pfedmaop"]}, "no method to tune 'pfedmaop'; did you mean 'pfedmoap'"),
    ({"methods": ["zero_shot"]}, "zero_shot is not trained and has nothing to tune: choose from coop, "),
    ({"datasets": ["natur"]}, r"no data set of Table 1 \(quick\) 'natur'; did you mean 'nature'"),
    ({"datasets": []}, "at least one method, one data set and one seed"),
    ({"seeds": ()}, "at least one method, one data set and one seed"),
    ({"profile": "fast"}, "no profile 'fast'"),
    ({"profile": "paper"}, "flowers102 has no validation draw.*tune on embedded sets"),
])
def test_what_cannot_be_tuned_is_refused_in_one_sentence(arguments, message):
    with pytest.raises(UserError, match=message):
        plan_tuning(**arguments)
