"""The stored CLIP: an ordinary open_clip model, small, and one that reads photographs."""

import json
import math

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from pfedmoap.clip import load_clip
from pfedmoap.embedded import accuracy, sets, weights


@pytest.fixture(scope="module")
def clip():
    torch.set_num_threads(1)
    return load_clip()


def test_the_file_is_small_and_holds_the_documented_tensors():
    state = load_file(weights.WEIGHTS)
    assert weights.WEIGHTS.stat().st_size < 25e6
    ids = state.pop("token_embedding.ids")
    assert ids.dtype == torch.int32 and (ids.diff() > 0).all() and len(ids) == len(state["token_embedding.rows"])
    counters = {name for name in state if name.endswith("num_batches_tracked")}
    assert all(state[name].dtype == torch.float16 and state[name].isfinite().all() for name in state.keys() - counters)
    assert state["logit_scale"].item() == pytest.approx(math.log(100), abs=2e-3)


def test_the_configuration_is_an_ordinary_one(clip):
    config = weights.configuration()
    assert config["text_cfg"]["vocab_size"] == 49408 and config["text_cfg"]["context_length"] >= 40
    fresh = open_clip.CLIP(**config)
    fresh.load_state_dict(clip.model.state_dict(), strict=True)


def test_pictures_are_normalised_as_the_image_tower_was_trained(clip):
    white = torch.full((3, 2, 2), 255, dtype=torch.uint8)
    torch.testing.assert_close(clip.normalise(white), torch.ones(3, 2, 2))
    torch.testing.assert_close(clip.normalise(0 * white), -torch.ones(3, 2, 2))


def test_the_pooled_feature_is_the_mean_of_the_positions(clip):
    images = torch.stack([clip.preprocess(sets.load("animals").test.images[k]) for k in range(10)])
    pooled, spatial = clip.encode_images(images), clip.encode_spatial(images)
    assert spatial.shape == (10, 25, 256) and clip.positions == 25
    with torch.no_grad():
        maps = clip.model.visual.trunk.forward_features(images)  # (B, c, 5, 5)
        positions = maps.flatten(2).mT @ clip.model.visual.head.proj.weight.T  # (B, M, d)
    torch.testing.assert_close(F.normalize(positions, dim=-1), spatial, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(F.normalize(positions.mean(1), dim=-1), pooled, rtol=1e-4, atol=1e-5)
    one = torch.cat([clip.encode_images(image[None]) for image in images])  # however many are encoded at a time
    torch.testing.assert_close(one, pooled, rtol=1e-4, atol=1e-5)


def test_positions_carry_meaning(clip):
    """FedOTP's start: the share of positions whose nearest class is the image's is far above chance."""
    images = sets.load("animals")
    names = clip.encode_texts([f"a photo of a {name}." for name in images.class_names])  # (C, d)
    chosen = range(0, len(images.test), 4)
    spatial = clip.encode_spatial(torch.stack([clip.preprocess(images.test.images[k]) for k in chosen]))
    right = (spatial @ names.T).argmax(-1) == torch.from_numpy(images.test.labels[list(chosen)])[:, None]
    assert right.float().mean() > 5 / len(names)


def test_figures_are_those_of_the_stored_weights_and_far_above_chance(clip):
    facts = json.loads(weights.FIGURES.read_text())
    recorded = facts["sets"]
    assert set(recorded) == {name + draw for name in sets.NAMES for draw in ("", sets.VALIDATION)}
    assert accuracy.zero_shot(clip, sets.load("animals")) == pytest.approx(recorded["animals"]["zero_shot"], abs=0.01)
    for name, row in recorded.items():
        assert row["linear_probe"] > 0.75, name
        if "digits" not in name:  # of which it knows nothing
            assert row["zero_shot"] > 4 / row["classes"], name
    assert facts["tokens"] == len(load_file(weights.WEIGHTS)["token_embedding.ids"])


def test_names_are_known_in_other_words(clip):
    texts = clip.encode_texts(["a photo of a dog.", "these are dogs.", "a photo of a small black dog.",
                               "a photo of a sofa.", "a photo of a couch."]).numpy()  # fmt: skip
    likeness = texts @ texts.T
    assert min(likeness[0, 1], likeness[0, 2], likeness[3, 4]) > 0.6 > np.abs(likeness[:3, 3:]).max()
