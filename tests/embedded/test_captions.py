"""Captions: the tokens are those of the standard tokeniser, and all of them are in the stored vocabulary."""

import numpy as np
import open_clip
import pytest

from pfedmoap.embedded import captions, sets
from pfedmoap.embedded.corpus import batch, training_scenes
from pfedmoap.randomness import generator


@pytest.fixture(scope="module")
def written():
    random = generator(0, "captions")
    scenes = training_scenes(random, 2000)
    return scenes, [captions.caption(scene, random) for scene in scenes]


def test_tokens_equal_the_standard_tokenisers(written):
    texts = written[1][:200]
    expected = open_clip.SimpleTokenizer()([" ".join(text) for text in texts], context_length=40).numpy()
    for text, row in zip(texts, expected, strict=True):
        own = captions.tokens(text)
        assert own == row[: len(own)].tolist()
        assert not row[len(own) :].any()


def test_every_token_is_in_the_vocabulary(written):
    known = set(captions.vocabulary().tolist())
    assert known.issuperset(token for text in written[1] for token in captions.tokens(text))
    assert (np.diff(captions.vocabulary()) > 0).all()
    for name in sets.NAMES:
        prompt = captions.tokens(("a", "photo", "of", "a", *" ".join(sets.load(name).class_names).split(), "."))
        assert known.issuperset(prompt)


def test_captions_fit_and_reach_behind_sixteen_context_tokens(written):
    lengths = np.array([len(captions.tokens(text)) for text in written[1]])
    assert lengths.max() <= 40
    assert (lengths >= 20).mean() > 0.05


def test_views_are_named_three_times_out_of_four(written):
    scenes, texts = written
    view_names = tuple(captions.VIEWS)
    named = [
        view_names[s["view"]] in text for s, text in zip(scenes, texts, strict=True) if view_names[s["view"]] != "plain"
    ]
    # A filled caption may lose the word again where the style's word lands on it.
    assert 0.68 < np.mean(named) < 0.78


def test_colours_are_named_only_where_they_can_be_seen(written):
    scenes, texts = written
    styles = tuple(captions.STYLES)
    for scene, text in zip(scenes, texts, strict=True):
        if styles[scene["style"]] in captions.COLOURLESS:
            assert not set(text) & set(captions.COLOURS)


def test_names_and_articles():
    assert captions.describe("red", None, "star") == "red star"
    assert captions.describe(None, "dotted", "fish") == "dotted fish"
    assert captions.describe(None, None, "digit three") == "digit three"
    texts = {
        " ".join(captions.caption(scene, random))
        for random in [generator(1, "x")]
        for scene in training_scenes(random, 500)
    }
    assert not any(" a orange" in f" {text}" or " a image" in f" {text}" for text in texts)


def test_a_batch_is_decided_by_seed_and_step():
    pictures, texts = batch(3, 5, 16)
    again, same = batch(3, 5, 16)
    other, _ = batch(3, 6, 16)
    np.testing.assert_array_equal(pictures, again)
    assert texts == same
    assert (pictures != other).any()
