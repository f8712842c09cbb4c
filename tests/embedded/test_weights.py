"""The stored model: an ordinary open_clip model, small, and better than chance on every set."""

import json
import math

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file

from pfedmoap.embedded import evaluate, sets, tower
from pfedmoap.embedded.captions import vocabulary


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return tower.read()


def test_the_file_is_small_and_holds_the_documented_tensors():
    state = load_file(tower.WEIGHTS)
    assert tower.WEIGHTS.stat().st_size < 5e6
    ids, rows = state.pop("token_embedding.ids"), state.pop("token_embedding.rows")
    assert ids.dtype == torch.int32
    np.testing.assert_array_equal(ids.numpy(), vocabulary())
    assert all(value.dtype == torch.float16 for value in (*state.values(), rows))
    assert all(value.isfinite().all() for value in (*state.values(), rows))
    assert state["logit_scale"].item() == pytest.approx(math.log(100), abs=2e-3)


def test_open_clip_loads_it_strictly(model):
    config = json.loads(tower.CONFIG.read_text())
    fresh = open_clip.CLIP(**config)
    fresh.load_state_dict(model.state_dict(), strict=True)
    table = tower.token_table(config)
    unused = np.setdiff1d(np.arange(len(table)), vocabulary())
    torch.testing.assert_close(model.token_embedding.weight[unused], table[unused], rtol=0, atol=0)


def test_the_configuration_is_an_ordinary_one():
    config = json.loads(tower.CONFIG.read_text())
    assert config["quick_gelu"] is True
    assert config["text_cfg"]["vocab_size"] == 49408
    assert config["text_cfg"]["context_length"] >= 40
    assert set(config) == {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}


def test_the_image_tower_has_at_least_sixteen_spatial_features(model):
    pictures = tower.inputs(sets.load("office").test.images.as_array()[:4])
    features = model.visual.forward_intermediates(pictures, indices=1, output_fmt="NLC")["image_intermediates"][-1]
    assert features.shape[1] >= 16


@pytest.mark.parametrize("name", sets.NAMES)
def test_zero_shot_is_well_above_chance(model, name):
    images = sets.load(name)
    assert evaluate.zero_shot(model, images) > 1.5 / len(images.class_names)


def test_stored_figures_are_those_of_the_stored_weights(model):
    recorded = json.loads((tower.ASSETS / "embedded_clip_figures.json").read_text())["sets"]
    for name in ("patterns", "digits"):
        assert evaluate.zero_shot(model, sets.load(name)) == pytest.approx(recorded[name]["zero_shot"], abs=0.01)
