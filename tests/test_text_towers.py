"""Learned prompts in every family of open_clip's text towers, against the model's own `encode_text`."""

import pytest
import torch
import torch.nn.functional as F
from families import OF_TRANSFORMERS, OWN, Family, tiny_model

from pfedmoap.clip import Clip
from pfedmoap.errors import UserError
from pfedmoap.experiments import Personalised, Place, from_profile, prepare, run
from pfedmoap.methods import PFedMoAP, PromptFL
from pfedmoap.prompts import PlainTower, PromptEncoder, initial_prompt, text_path, word_tokens
from pfedmoap.shared_prefix import SharedPrefix

NAMES = ("sea lion", "hard-leaved pocket orchid", "car", "dog")
EXTRA = "an optional extra: pip install 'pfedmoap[towers]'"
_loaded: dict[str, Clip] = {}


@pytest.fixture(params=[*OWN, *OF_TRANSFORMERS], ids=lambda family: family.model)
def family(request) -> Family:
    if request.param.sentence:
        pytest.importorskip("transformers", reason=EXTRA)
    return request.param


@pytest.fixture
def clip(family, tmp_path_factory) -> Clip:
    if family.model not in _loaded:
        _loaded[family.model] = tiny_model(family, tmp_path_factory.mktemp("family"))
    return _loaded[family.model]


def of_whole_sentences(clip: Clip, tokens: torch.Tensor, prompt: torch.Tensor, start: int) -> torch.Tensor:
    """`encode_text` of tokenised sentences, in which a prompt replaces embeddings from position `start` on."""
    def put_in(module, inputs, output):
        rows = prompt.expand(len(tokens), -1, -1)
        return torch.cat([output[:, :start], rows, output[:, start + len(prompt) :]], 1)

    hook = clip.token_embedding.register_forward_hook(put_in)
    try:
        return F.normalize(clip.model.encode_text(tokens), dim=-1)
    finally:
        hook.remove()


def test_features_and_gradient_equal_encode_texts(family, clip):
    """The embeddings of "a photo of a" as a prompt give the sentences' features; from there gradients are compared."""
    tokens = clip.tokenizer([f"a photo of a {name}." for name in NAMES])[:, : clip.context_length]
    start = len((family.sentence or "[SOS] $A").split("$A")[0].split())
    m = len(word_tokens(clip, "a photo of a"))
    words = clip.token_embedding(tokens[0, start : start + m])
    prompts = torch.stack([words, words + 50 * words.std() * initial_prompt(m, clip.token_width, seed=1)])
    weights = torch.randn(2, len(NAMES), clip.embed_dim, generator=torch.manual_seed(2))
    ours, theirs = (prompts.clone().requires_grad_() for _ in range(2))
    features = PromptEncoder(clip, NAMES)(ours)
    reference = torch.stack([of_whole_sentences(clip, tokens, prompt, start) for prompt in theirs])
    (features * weights).sum().backward()
    (reference * weights).sum().backward()
    sentences = F.normalize(clip.model.encode_text(tokens), dim=-1)
    assert (features[0] - sentences).norm() <= 1e-5 * sentences.norm()
    assert (features - reference).norm() <= 1e-5 * reference.norm()
    assert theirs.grad.norm() > 0
    assert (ours.grad - theirs.grad).norm() <= 1e-5 * theirs.grad.norm()
    assert (features[0] - features[1]).norm() > 1e-3 and (features[0, 0] - features[0, 1]).norm() > 1e-4


def test_the_path_is_the_familys(family, clip):
    encoder = PromptEncoder(clip, NAMES)
    assert isinstance(encoder._chunks[0], SharedPrefix if family.fast else PlainTower)
    assert text_path(clip.name).startswith("shared prefix" if family.fast else "open_clip's own encoder: ")
    assert encoder.bytes_per_prompt() > 0


def test_both_paths_agree_where_the_prefix_is_shared(family, clip):
    if not family.fast:
        pytest.skip("its prefix is not shared")
    encoder, prompts = PromptEncoder(clip, NAMES), initial_prompt(3, clip.token_width, 1)[None]
    plain = F.normalize(PlainTower(clip, encoder._suffixes)(prompts), dim=-1)
    torch.testing.assert_close(encoder(prompts), plain, atol=1e-5, rtol=1e-5)


def test_handwritten_prompts_equal_whole_sentences(clip):
    sentences = clip.encode_texts([f"a photo of a {name}." for name in NAMES])
    torch.testing.assert_close(PromptEncoder(clip, NAMES).handwritten(), sentences, atol=1e-5, rtol=1e-5)


def test_a_name_that_does_not_fit_is_named(clip):
    encoder = PromptEncoder(clip, ["dog", "x " * clip.context_length + "car"])
    with pytest.raises(UserError, match="'x x .*has room for"):
        encoder.handwritten()
    room = clip.context_length - len(clip.marks.start) - len(word_tokens(clip, "x dog.")[1:]) - 1
    fits = PromptEncoder(clip, ["dog"])
    assert fits(torch.zeros(1, room, clip.token_width)).isfinite().all()
    with pytest.raises(UserError, match="'dog'"):
        fits(torch.zeros(1, room + 1, clip.token_width))


def kept_bytes(clip: Clip, encoder: PromptEncoder, prompts: torch.Tensor) -> tuple[int, torch.Tensor]:
    """What autograd keeps for backward but for weights, and the features that it is kept for."""
    kept, weights = {}, {tensor.untyped_storage().data_ptr() for tensor in clip.model.state_dict().values()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = 0 if storage.data_ptr() in weights else storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = encoder(prompts)
    return sum(kept.values()), features


def test_classes_in_chunks_have_the_same_features_and_gradient(family, clip):
    """Forward then keeps next to nothing, and backward no more than the bound."""
    names = [f"{first} {second}" for first in NAMES for second in ("a", "b", "c d", "car", "old red dog")]
    start = 50 * clip.token_embedding.weight.std() * initial_prompt(3, clip.token_width, 1)[None]
    weights = torch.randn(1, len(names), clip.embed_dim, generator=torch.manual_seed(2))
    prompts = [start.clone().requires_grad_() for _ in range(2)]
    whole = PromptEncoder(clip, names)
    estimate = whole.bytes_per_prompt(3) / whole._chunks[0].generosity
    chunked = PromptEncoder(clip, names, memory_bytes=int(estimate / 3.5))
    assert len(whole._chunks) == 1 and len(chunked._chunks) in (4, 5)
    (kept, expected), (kept_in_chunks, features) = (
        kept_bytes(clip, encoder, prompt) for encoder, prompt in zip((whole, chunked), prompts, strict=True))
    assert kept_in_chunks < kept / 5
    if not family.fast:
        assert estimate == pytest.approx(kept, rel=0.1)
    for each in (expected, features):
        (each * weights).sum().backward()
    assert (features - expected).norm() <= 1e-6 * expected.norm()
    assert (prompts[1].grad - prompts[0].grad).norm() <= 1e-5 * prompts[0].grad.norm()
    torch.testing.assert_close(chunked.handwritten(), whole.handwritten(), atol=1e-6, rtol=1e-5)


def test_more_chunks_than_classes_are_not_made(clip):
    encoder = PromptEncoder(clip, NAMES, memory_bytes=1)
    assert len(encoder._chunks) == len(NAMES)
    assert encoder(torch.zeros(2, 3, clip.token_width)).shape == (2, len(NAMES), clip.embed_dim)


def test_image_features_are_the_models_own(clip):
    images = torch.randn(3, 3, clip.image_size, clip.image_size, generator=torch.manual_seed(0))
    expected = F.normalize(clip.model.encode_image(images), dim=-1)
    torch.testing.assert_close(clip.encode_images(images), expected, atol=1e-6, rtol=1e-6)
    assert len(clip.fingerprint) == 64 and clip.logit_scale > 1


def test_towers_that_map_no_positions_refuse_fedotp_by_name(tmp_path):
    coca = tiny_model(Family("coca_ViT-B-32", fast=False), tmp_path)
    with pytest.raises(UserError, match="maps no positions: leave FedOTP out"):
        coca.encode_spatial(torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize("method", [PFedMoAP(d_gating=8), PromptFL()], ids=lambda method: method.name)
def test_a_whole_run_trains_prompts_of_a_tower_that_is_not_causal(method, tmp_path):
    clip = tiny_model(Family("MobileCLIP2-S0", fast=False), tmp_path)
    experiment = from_profile("nature", method, profile="smoke", model=clip.name, context_tokens=4, lr=0.5,
                              weights=str(tmp_path / "weights.safetensors"))
    place = Place(cache=str(tmp_path / "cache"))
    record = run(experiment, place, progress=False)
    losses = [sum(entry["losses"].values()) for entry in record["rounds"]]
    assert len(losses) == experiment.rounds and losses[-1] < losses[0]
    prepared = prepare(experiment, place)
    list(prepared.federation.rounds())
    personal = Personalised.of(prepared, 0)
    personal.save(tmp_path / "client.safetensors")
    image = prepared.imageset.test.images[0]
    loaded = Personalised.load(tmp_path / "client.safetensors", clip)
    ours, theirs = (each.predict(image) for each in (personal, loaded))
    assert ours.classes == theirs.classes and ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-5)
