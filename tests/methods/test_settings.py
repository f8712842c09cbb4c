"""Every setting's limits: the last value that is taken, and the first that is refused, with the remedy."""

import pytest

from pfedmoap.errors import PfedmoapError, UserError
from pfedmoap.experiments import build_method
from pfedmoap.methods import Classifier, FedPer, PFedMoAP, TipAdapter

NOT_NEGATIVE, POSITIVE, WHOLE = "a number >= 0", "a number > 0", "a whole number >= 0"
LIMITS = [  # method, setting, values that are taken, values that are refused, what it must be
    ("promptfl_ft", "final_epochs", [1], [0], "a whole number >= 1"),
    ("fedper", "shared_tokens", [None, 0], [-1], "a whole number >= 0, or None"),
    ("fedprox", "mu", [0.0], [-0.1], NOT_NEGATIVE),
    ("fedamp", "attraction", [0.0], [-0.1], NOT_NEGATIVE),
    ("pfedprompt", "cache_weight", [0.0], [-0.1], NOT_NEGATIVE),
    ("pfedprompt", "cache_sharpness", [0.1], [0.0], POSITIVE),
    ("fedotp", "mass", [0.01, 1.0], [0.0, 1.01], "a number > 0 and <= 1"),
    ("fedotp", "regularisation", [0.01], [0.0], POSITIVE),
    ("fedotp", "iterations", [1], [0], "a whole number >= 1"),
    ("fedotp", "threshold", [0.0], [-1e-9], NOT_NEGATIVE),
    ("fedpgp", "rank", [0], [-1], WHOLE),
    ("fedpgp", "mu", [0.0], [-0.1], NOT_NEGATIVE),
    ("fedpgp", "temperature", [0.01], [0.0], POSITIVE),
    ("pfedmoap", "lam", [0.0], [-0.1], NOT_NEGATIVE),
    ("pfedmoap", "experts", [0, (0, 2)], [-1, (1, -1), 1.5], "a whole number >= 0, or one per client"),
    ("pfedmoap", "expert_choice", ["nearest", "random", "global"], ["far"], "'nearest', 'random' or 'global'"),
    ("pfedmoap", "gate", ["attention", "linear", "none"], ["no"], "'attention', 'linear' or 'none'"),
    ("pfedmoap", "d_gating", [8], [0], "a whole number >= 1"),
    ("pfedmoap", "heads", [1, 128], [0, 7], "a divisor of d_gating (128)"),
    ("pfedmoap", "attention_scale", [None, 0.1], [0.0], "a number > 0, or None"),
    ("pfedmoap", "moe_similarity", ["dot", "cosine"], ["l2"], "'dot' or 'cosine'"),
    ("pfedmoap", "pooling", ["stride", "average"], ["max"], "'stride' or 'average'"),
    ("pfedmoap", "gate_lr", [0.0], [-0.1], NOT_NEGATIVE),
    ("logistic_regression", "inverse_penalty", [0.01], [0.0], POSITIVE),
    ("tip_adapter", "cache_weight", [0.0], [-0.1], NOT_NEGATIVE),
    ("tip_adapter", "cache_sharpness", [0.1], [0.0], POSITIVE),
    ("tip_adapter_f", "cache_weight", [0.0], [-0.1], NOT_NEGATIVE),
    ("tip_adapter_f", "key_steps", [0], [-1], WHOLE),
    ("tip_adapter_f", "key_lr", [0.0], [-0.1], NOT_NEGATIVE),
    ("clap", "probe_steps", [0], [-1], WHOLE),
    ("clap", "probe_lr", [0.0, 1.0], [-0.1], NOT_NEGATIVE),
    ("clap", "constraint", [0.0, 1000.0], [-0.5, 1001.0], "a number >= 0 and <= 1 / probe_lr"),
]


@pytest.mark.parametrize(("name", "setting", "taken", "refused", "wanted"), LIMITS, ids=lambda part: str(part)[:20])
def test_limits(name, setting, taken, refused, wanted):
    for value in taken:
        assert getattr(build_method(name, **{setting: value}), setting) == value
    for value in refused:
        with pytest.raises(UserError) as error:
            build_method(name, **{setting: value})
        assert str(error.value) == f"{name}'s {setting} must be {wanted}, not {value!r}."


def test_the_narrowest_gate_has_one_head():
    assert PFedMoAP(d_gating=1, heads=1).heads == 1


def test_a_list_of_experts_is_as_good_as_a_tuple():
    assert PFedMoAP(experts=[2, 0]).experts == (2, 0)
    assert hash(PFedMoAP(experts=[2, 0])) == hash(PFedMoAP(experts=(2, 0)))


@pytest.mark.parametrize(("method", "features", "tokens", "message"), [
    (FedPer(shared_tokens=5), 32, 4, "fedper cannot share 5 of 4 context tokens."),
    (PFedMoAP(), 96, 4, "d_gating 128 does not divide the CLIP's feature width 96."),
])
def test_what_does_not_fit_the_clip_is_refused(method, features, tokens, message):
    with pytest.raises(UserError) as error:
        method.check(features, tokens)
    assert str(error.value) == message


@pytest.mark.parametrize("method", [FedPer(), FedPer(shared_tokens=4), PFedMoAP(d_gating=32), PFedMoAP(gate="linear")],
                         ids=str)
def test_what_fits_is_taken(method):
    assert method.check(96, 4) is None


def test_a_classifier_without_a_fit_says_what_it_lacks(context):
    class Unfinished(Classifier):
        name = "unfinished"

    with pytest.raises(PfedmoapError) as error:
        Unfinished().fit(None, context)
    assert str(error.value) == "Unfinished overrides neither `fit` nor `fixed`: give it one of them."
    assert isinstance(TipAdapter(), Classifier)  # which overrides `fixed`
