"""For which of open_clip's models the shared prefix is exact, by their configurations alone; how it packs tokens."""

import open_clip
import pytest
import torch

from pfedmoap.shared_prefix import Layout, obstacle

NOT_CAUSAL, OF_TRANSFORMERS, CLASS_TOKEN = "not causal", "transformers package", "class token"
PLAIN = {  # the beginnings of names
    "coca_roberta": OF_TRANSFORMERS, "mt5": OF_TRANSFORMERS, "nllb": OF_TRANSFORMERS, "roberta": OF_TRANSFORMERS,
    "xlm-roberta": OF_TRANSFORMERS, "coca_": CLASS_TOKEN, "MobileCLIP-B": None, "MobileCLIP2-B": None,
    "MobileCLIP": NOT_CAUSAL,
}  # fmt: skip


def expected(name: str) -> str | None:
    """What the families' papers say of a model, by its name."""
    if "SigLIP" in name and not name.startswith("nllb") or "CLIPA" in name:
        return NOT_CAUSAL
    return next((reason for beginning, reason in PLAIN.items() if name.startswith(beginning)), None)


@pytest.mark.parametrize("name", open_clip.list_models())
def test_every_configuration_of_open_clip_has_its_path(name):
    reason, wanted = obstacle(open_clip.get_model_config(name)), expected(name)
    assert (reason is None) if wanted is None else wanted in reason


@pytest.mark.parametrize(("settings", "reason"), [
    ({"pool_type": "last"}, "pools by 'last'"),
    ({"pool_type": "eos"}, "pools by 'eos'"),
    ({"hf_tokenizer_name": "roberta-base"}, "pools by 'argmax'"),
    ({"ls_init_value": 0.1}, "sets ls_init_value"),
    ({"norm_kwargs": {"eps": 1e-6}, "qk_norm": True}, "sets norm_kwargs, qk_norm"),
    ({"ls_init_value": None, "no_causal_mask": False}, None),
])
def test_whatever_the_fast_path_does_not_follow_is_an_obstacle(settings, reason):
    config = open_clip.get_model_config("ViT-B-16")
    found = obstacle(config | {"text_cfg": config["text_cfg"] | settings})
    assert found is None if reason is None else reason in found


def test_tokens_are_packed_and_padded():
    layout = Layout([2, 3, 1], torch.device("cpu"))
    packed = torch.arange(1.0, 7)[None, :, None]  # (1, S, 1)
    padded = layout.gather_padded(packed)
    assert padded.flatten().tolist() == [1, 2, 0, 3, 4, 5, 6, 0, 0]
    assert torch.equal(padded.index_select(1, layout.pack), packed)
    assert layout.eot.tolist() == [1, 4, 5] and layout.offsets.tolist() == [0, 1, 0, 1, 2, 0]
