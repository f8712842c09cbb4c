"""Whose images are asked about, what a prompt says in words, and an audit of a whole run."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pfedmoap import clip as clips
from pfedmoap import experiments
from pfedmoap.errors import UserError
from pfedmoap.experiments import Place, dealt, load_dataset, run
from pfedmoap.leakage import SHADOWS, audit_all, auditing, candidates, decoding, grids
from pfedmoap.leakage.numbers import covered
from pfedmoap.methods import CoOp, PFedMoAP, PromptFL
from pfedmoap.released import RELEASED


@pytest.fixture(scope="module")
def place(features_cache) -> Place:
    return Place(cache=features_cache)


@pytest.mark.parametrize("dataset", ["nature", "digits", "domains"])
def test_non_members_are_nobodys_and_drawn_as_members_are(dataset):
    settings = {"shots": 8} if dataset == "domains" else {}
    experiment = experiments.from_profile(dataset, PromptFL(), "quick", **settings)
    imageset = load_dataset(dataset)
    shares = dealt(experiment, imageset)
    asked, public = candidates.draw(imageset, shares, range(experiment.clients), seed=1)
    trained = np.concatenate(shares.train)
    assert not np.isin(public, trained).any()
    for client, one in enumerate(asked):
        members, others = one.images[one.member], one.images[~one.member]
        assert len(members) == len(others) and np.isin(members, shares.train[client]).all()
        assert not np.isin(others, trained).any() and not np.isin(others, public).any()
        assert np.array_equal(np.sort(one.strata[one.member]), np.sort(one.strata[~one.member]))
        assert np.array_equal(one.labels, imageset.train.labels[one.images])
    if dataset == "digits":  # of which there are enough left
        assert all(len(one.images) == 2 * len(own) for one, own in zip(asked, shares.train, strict=True))


def test_halves_are_complements_with_as_many_images_of_every_class():
    imageset = load_dataset("digits")
    shares = dealt(experiments.from_profile("digits", PromptFL(), "quick"), imageset)
    (one, *_), _ = candidates.draw(imageset, shares, [0], seed=1)
    halves = one.halves(8, seed=3)
    assert (halves.sum(0) == 4).all() and np.array_equal(halves[0], ~halves[1])
    for half in halves:
        assert np.array_equal(np.bincount(one.labels[half]), np.bincount(one.labels[one.member]))
    assert not np.array_equal(halves[0], halves[2]) and np.array_equal(halves, one.halves(8, seed=3))


def test_a_class_that_is_used_up_is_refused():
    imageset = load_dataset("nature")
    shares = dealt(experiments.from_profile("nature", PromptFL(), "quick", shots=None), imageset)
    with pytest.raises(UserError, match="give clients fewer shots"):
        candidates.draw(imageset, shares, range(10), seed=1)


@pytest.mark.parametrize("kind", decoding.KINDS)
def test_a_prompt_of_known_tokens_decodes_to_them(tiny_clip, kind):
    tokens = torch.tensor(tiny_clip.tokenizer.encode("a red sea lion"))
    prompt = tiny_clip.model.token_embedding.weight[tokens].detach()
    ids = decoding.nearest(tiny_clip, prompt, 3, kind=kind)
    assert torch.equal(ids[:, 0], tokens) and ids.shape == (4, 3)
    assert decoding.words(tiny_clip, ids)[:, 0].tolist() == ["a", "red", "sea", "lion"]
    assert decoding.table(tiny_clip, prompt, prompt).iloc[2, 1].startswith("sea, ")
    assert decoding.unchanged(tiny_clip, prompt, prompt + 1e-4) == 1.0
    assert decoding.unchanged(tiny_clip, prompt, prompt.roll(1, 0)) == 0.0


def test_names_that_a_prompt_came_nearer_to(tiny_clip):
    names, owned = ("cat", "sea lion", "dog"), np.array([False, True, False])
    start = torch.zeros(2, tiny_clip.token_width)
    tokens = torch.tensor(tiny_clip.tokenizer.encode("sea lion"))
    upload = 0.9 * tiny_clip.model.token_embedding.weight[tokens].detach()
    assert decoding.names_nearer(tiny_clip, names, owned, start, upload) == (1.0, 1.0)
    assert decoding.names_nearer(tiny_clip, names, owned, start, start)[1] == 0.5


def test_the_shipped_clip_was_trained_on_some_tokens(tiny_clip):
    clip = clips.load_clip()
    known = decoding.trained(clip)
    assert 5000 < len(known) < 30_000 and {"elephant", "red"} <= set(decoding.words(clip, known))
    assert len(decoding.trained(tiny_clip)) == len(decoding.vocabulary(tiny_clip)) == 49408


def test_an_audit_trains_as_the_run_does_and_can_be_stored(place):
    experiment = experiments.from_profile("digits", PFedMoAP(), "smoke", epsilon=2.0)
    found = json.loads(json.dumps(auditing.audit(experiment, place, shadows=4)))
    uploaded = replace(experiment, dp_test_prompt="uploaded")
    assert found["accuracy"]["own"] == run(experiment, place, progress=False)["accuracy"]
    assert found["accuracy"]["uploaded"] == run(uploaded, place, progress=False)["accuracy"]
    assert len(found["clients"]) == 5 and found["shift"] > 0
    for client in found["clients"]:
        assert all(len(scores) == len(client["member"]) == 16 for scores in client["membership"].values())
        assert all(math.isfinite(score) for scores in client["membership"].values() for score in scores)
        assert sum(client["owned"]) == 2
    lenders = found["others"]["lenders"]
    assert all(sorted([int(borrower), *own]) == list(range(5)) for borrower, own in lenders.items())


def test_an_audit_is_the_same_twice_and_is_kept(place, tmp_path):
    experiment = experiments.from_profile("digits", PromptFL(), "smoke")
    (first,) = audit_all([experiment], place, folder=tmp_path, shadows=4, jobs=1, progress=False).values()
    assert first["clients"] == json.loads(json.dumps(auditing.audit(experiment, place, shadows=4)))["clients"]
    (path,) = Path(tmp_path).glob("*.json")
    modified = path.stat().st_mtime_ns
    audit_all([experiment], place, folder=tmp_path, shadows=4, jobs=1, progress=False)
    assert path.stat().st_mtime_ns == modified


@pytest.mark.parametrize("settings, shadows, complaint", [
    ({"method": CoOp()}, 4, "do not upload one prompt each"), ({"protocol": RELEASED}, 4, "leave out --protocol"),
    ({}, 5, "even number"),
])  # fmt: skip
def test_what_cannot_be_audited_is_refused(place, settings, shadows, complaint):
    with pytest.raises(UserError, match=complaint):
        auditing.audit(replace(experiments.from_profile("digits", PromptFL(), "smoke"), **settings), place, shadows)


def test_what_epsilon_is_promised_for_is_said_as_it_is_accounted():
    assert covered(grids("smoke")["study"]) == "one upload, given what was sent"
    assert covered(grids("smoke", dp_accounting="total")["study"]) == "all uploads"


@pytest.mark.parametrize("profile", experiments.PROFILES)
def test_the_study_has_both_methods_under_all_budgets_and_a_control(profile):
    found = grids(profile)
    assert set(found) == {"study", "control"} and all(count % 2 == 0 for count in SHADOWS.values())
    budgets = {one.epsilon for one in found["study"]}
    assert budgets == ({None, 2.0} if profile == "smoke" else {None, math.inf, 50.0, 25.0, 8.0, 2.0, 0.5})
    assert {one.method.name for one in found["study"]} == {"pfedmoap", "promptfl"}
    assert {one.epsilon for one in found["control"]} == {None}
    only = grids(profile, seeds=[3], methods=["promptfl"])
    assert {(one.method.name, one.seed) for grid in only.values() for one in grid} == {("promptfl", 3)}
    with pytest.raises(UserError):
        grids(profile, methods=["coop"])
