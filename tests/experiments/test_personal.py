"""A client's personal model away from its federation: the same predictions, and nothing but its own file needed."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pfedmoap import experiments
from pfedmoap.checkpoints import ASSETS
from pfedmoap.clip import load_clip
from pfedmoap.errors import UserError
from pfedmoap.experiments import Personalised, Place, prepare
from pfedmoap.methods import CoOp, PFedMoAP, ZeroShot

EXPERIMENT = experiments.from_profile("digits", PFedMoAP(), "smoke", clients=4, shots=8, local_epochs=2)


@pytest.fixture(scope="module")
def place(features_cache):
    return Place(cache=features_cache)


@pytest.fixture(scope="module")
def train(place):
    def train(experiment=EXPERIMENT):
        prepared = prepare(experiment, place)
        list(prepared.federation.rounds())
        return prepared

    return train


@pytest.fixture(scope="module")
def prepared(train):
    return train()


def accuracy(personal, prepared, client):
    test = prepared.imageset.test
    hits = [
        personal.predict(test.images[int(index)], top=1).classes[0] == prepared.imageset.class_names[test.labels[index]]
        for index in prepared.partition.test[client]
    ]
    return np.mean(hits)


@pytest.mark.parametrize("method", [PFedMoAP(), PFedMoAP(gate="linear"), CoOp(), ZeroShot()], ids=lambda m: m.name)
def test_predictions_are_those_of_the_federation(train, tmp_path, method):
    prepared = train(replace(EXPERIMENT, method=method))
    for client in (0, 3):
        Personalised.of(prepared, client).save(tmp_path / "client.safetensors")
        personal = Personalised.load(tmp_path / "client.safetensors")
        assert accuracy(personal, prepared, client) == pytest.approx(prepared.federation.history[-1].accuracies[client])


def test_prediction_has_probabilities_and_the_gates_weights(prepared):
    personal = Personalised.of(prepared, 1)
    image = prepared.imageset.test.images[5]
    top = personal.predict(image, top=3)
    assert len(top.classes) == 3 and list(top.probabilities) == sorted(top.probabilities, reverse=True)
    assert top.experts == ("own prompt", "expert 1", "expert 2", "expert 3")
    assert top.gate_weights.shape == (3, 4)
    np.testing.assert_allclose(top.gate_weights.sum(1), 1, rtol=1e-5)
    whole = personal.predict(image, top=99)
    assert set(whole.classes) == set(prepared.imageset.class_names)
    assert sum(whole.probabilities) == pytest.approx(1, abs=1e-5)
    assert whole.frame().shape == (10, 5) and whole.frame().index[0] == top.classes[0]


def test_newcomer_and_ungated_models_have_no_gate_weights(train, place):
    fresh = prepare(EXPERIMENT, place)  # nobody has trained: the global prompt, no experts
    for prepared in (fresh, train(replace(EXPERIMENT, method=CoOp()))):
        top = Personalised.of(prepared, 0).predict(prepared.imageset.test.images[0], top=2)
        assert top.experts == () and top.gate_weights.shape == (2, 0)
        assert list(top.frame().columns) == ["probability"]


def test_saved_model_is_small_and_predicts_the_same(prepared, tmp_path):
    path = tmp_path / "new" / "client.safetensors"
    personal = Personalised.of(prepared, 2)
    personal.save(path)
    assert path.stat().st_size < 400_000
    prepared.imageset.test.images[7].save(tmp_path / "image.png")
    ours, theirs = (each.predict(tmp_path / "image.png") for each in (personal, Personalised.load(path)))
    assert ours.classes == theirs.classes and ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-5)
    np.testing.assert_allclose(ours.gate_weights, theirs.gate_weights, atol=1e-5)


def test_other_clip_is_refused(prepared, tmp_path, tiny_clip):
    path = tmp_path / "client.safetensors"
    Personalised.of(prepared, 0).save(path)
    with pytest.raises(UserError, match="was trained with another CLIP .*embedded_clip.* than RN50-quickgelu"):
        Personalised.load(path, tiny_clip)
    assert Personalised.load(path, load_clip()).clip is load_clip()


def test_local_weights_are_named_without_their_folder(place, tmp_path):
    shutil.copy(ASSETS / "embedded_clip.safetensors", tmp_path / "mine.safetensors")
    prepared = prepare(replace(EXPERIMENT, weights=str(tmp_path / "mine.safetensors")), place)
    Personalised.of(prepared, 0).save(tmp_path / "client.safetensors")
    assert str(tmp_path).encode() not in (tmp_path / "client.safetensors").read_bytes()
    with pytest.raises(UserError, match="'mine.safetensors' is neither a file nor a pretrained tag"):
        Personalised.load(tmp_path / "client.safetensors")
    assert Personalised.load(tmp_path / "client.safetensors", prepared.clip).weights == "mine.safetensors"


def test_files_that_are_no_personal_models(prepared, tmp_path):
    with pytest.raises(UserError, match="nowhere is not there: write it with Personalised.save"):
        Personalised.load(tmp_path / "nowhere")
    (tmp_path / "text").write_text("oops")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    for name in ("text", "other.safetensors"):
        with pytest.raises(UserError, match=f"{name} is no personal model .*: write one with Personalised.save"):
            Personalised.load(tmp_path / name)
    Personalised.of(prepared, 0).save(tmp_path / "odd")
    tensors = load_file(tmp_path / "odd")
    with safe_open(tmp_path / "odd", "pt") as file:
        description = json.loads(file.metadata()["pfedmoap"])
    description["method"]["name"] = "pfedmoab"
    save_file(tensors, tmp_path / "odd", {"pfedmoap": json.dumps(description)})
    with pytest.raises(UserError, match="There is no method 'pfedmoab'; did you mean 'pfedmoap'"):
        Personalised.load(tmp_path / "odd")


def resaved(path, change, checksum: bool) -> None:
    """The file with other tensors or another description, and without its checksum, as of an earlier version."""
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    description = json.loads(metadata["pfedmoap"])
    change(tensors, description)
    kept = {"sha256": metadata["sha256"]} if checksum else {}
    save_file(tensors, path, kept | {"pfedmoap": json.dumps(description)})


def test_a_model_without_a_checksum_predicts_the_same(prepared, tmp_path):
    personal = Personalised.of(prepared, 0)
    personal.save(tmp_path / "model")
    resaved(tmp_path / "model", lambda tensors, description: None, checksum=False)
    image = prepared.imageset.test.images[0]
    assert Personalised.load(tmp_path / "model").predict(image).probabilities == personal.predict(image).probabilities


@pytest.mark.parametrize("change", [
    lambda tensors, told: tensors["model/prompt"].add_(1e-4), lambda tensors, told: told["class_names"].reverse(),
    lambda tensors, told: told["clip"].update(weights="other.pt")], ids=["a tensor", "the classes", "the weights"])
def test_a_model_that_was_changed_is_refused(prepared, tmp_path, change):
    Personalised.of(prepared, 0).save(tmp_path / "model")
    resaved(tmp_path / "model", change, checksum=True)
    with pytest.raises(UserError, match="model is no personal model .its checksum is wrong.: write one"):
        Personalised.load(tmp_path / "model")


@pytest.mark.parametrize("change", [
    lambda tensors, told: tensors.pop("model/prompt"), lambda tensors, told: tensors.pop("lent/experts"),
    lambda tensors, told: tensors.update({"model/prompt": torch.zeros(3)}),
    lambda tensors, told: tensors.update({"lent/experts": torch.full((1, 4, 2), torch.nan)}),
    lambda tensors, told: told.update(class_names="abc"), lambda tensors, told: told.update(class_names=[1]),
    lambda tensors, told: tensors.update({"model/prompt": tensors["model/prompt"].view(torch.int32)}),
    lambda tensors, told: told["class_names"].__setitem__(0, "a\x00b"),
    lambda tensors, told: told.update(class_names=[]), lambda tensors, told: told.pop("clip"),
    lambda tensors, told: told["clip"].update(precision=None), lambda tensors, told: told["method"].update(heads="x"),
    lambda tensors, told: told.update(method=[])])
def test_what_cannot_be_a_model_is_refused_before_it_is_used(prepared, tmp_path, change):
    Personalised.of(prepared, 0).save(tmp_path / "model")
    resaved(tmp_path / "model", change, checksum=False)
    with pytest.raises(UserError):
        Personalised.load(tmp_path / "model")


def test_clients_that_do_not_exist_and_methods_that_cannot_leave(prepared):
    with pytest.raises(UserError, match="There is no client 4: choose one from 0 to 3"):
        Personalised.of(prepared, 4)
    remembering = replace(prepared, experiment=replace(EXPERIMENT, method=_Remembering()))
    with pytest.raises(UserError, match="looks at the client's own images"):
        Personalised.of(remembering, 0)


class _Remembering(CoOp):
    remembers_images = True
