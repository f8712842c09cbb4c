"""The shared-prefix encoder against open_clip's own full-length text encoder."""

import copy

import open_clip
import pytest
import torch
from tiny import NAMES

from pfedmoap.clip import Clip
from pfedmoap.errors import UserError
from pfedmoap.prompts import PromptEncoder, TextFeatures, initial_prompt


def encode_in_full(clip: Clip, names, prompt: torch.Tensor) -> torch.Tensor:
    """open_clip's `encode_text` over the whole context, with the context tokens' embeddings replaced by the prompt."""
    m = len(prompt)
    sentences = [" ".join(["x"] * m) + f" {name}." for name in names]
    tokens = clip.tokenizer(sentences, context_length=clip.model.context_length)
    context = prompt.expand(len(names), -1, -1)
    hook = clip.model.token_embedding.register_forward_hook(
        lambda module, inputs, output: torch.cat([output[:, :1], context, output[:, 1 + m :]], 1))
    try:
        return clip.model.encode_text(tokens, normalize=True)
    finally:
        hook.remove()


@pytest.fixture(scope="module", params=["embedded_clip", "RN50-quickgelu", "ViT-B-16"])
def random_clip(request) -> Clip:
    torch.manual_seed(0)
    model = open_clip.create_model(request.param, pretrained_text=False).eval().requires_grad_(False)
    return Clip(request.param, "random", model, torch.device("cpu"), torch.float32)


def assert_same_features_and_gradient(clip, names, prompts):
    weights = torch.randn(len(prompts), len(names), clip.embed_dim, generator=torch.manual_seed(2))
    ours, theirs = (prompts.clone().requires_grad_() for _ in range(2))
    fast = PromptEncoder(clip, names)(ours)
    slow = torch.stack([encode_in_full(clip, names, prompt) for prompt in theirs])
    (fast * weights).sum().backward()
    (slow * weights).sum().backward()
    assert (fast - slow).norm() <= 1e-5 * slow.norm()
    assert theirs.grad.norm() > 0
    assert (ours.grad - theirs.grad).norm() <= 1e-5 * theirs.grad.norm()


def test_features_and_gradient_equal_open_clips(random_clip):
    prompts = torch.stack([initial_prompt(16, random_clip.token_width, seed) for seed in (1, 2)])
    assert_same_features_and_gradient(random_clip, NAMES, prompts)


def test_handwritten_prompts_equal_whole_sentences(random_clip):
    names = (*NAMES, "St. Bernard (dog)", "'60s car")
    sentences = random_clip.encode_texts([f"a photo of a {name}." for name in names])
    handwritten = PromptEncoder(random_clip, names).handwritten()
    assert (handwritten - sentences).norm() <= 1e-5 * sentences.norm()


def test_a_tower_in_bf16_gives_nearly_fp32s_features_and_gradient():
    """Prompts and residual stream are never rounded, so that a change that bf16 cannot hold still has an effect."""
    torch.manual_seed(0)
    full = open_clip.create_model("RN50-quickgelu", pretrained_text=False).eval().requires_grad_(False)
    half = copy.deepcopy(full).bfloat16()
    weights, results = torch.randn(2, len(NAMES), 1024, generator=torch.manual_seed(2)), []
    for model in (full, half):
        clip = Clip("RN50-quickgelu", "random", model, torch.device("cpu"), next(model.parameters()).dtype)
        prompts = torch.stack([initial_prompt(16, 512, seed) for seed in (1, 2)]).requires_grad_()
        features = PromptEncoder(clip, NAMES)(prompts)
        (features * weights).sum().backward()
        results.append((features.detach(), prompts.grad))
    (features, gradient), (rounded_features, rounded_gradient) = results
    assert rounded_features.dtype == rounded_gradient.dtype == torch.float32
    assert 0 < (rounded_features - features).norm() <= 0.01 * features.norm()
    assert 0 < (rounded_gradient - gradient).norm() <= 0.05 * gradient.norm()
    assert not torch.equal(rounded_gradient, rounded_gradient.bfloat16().float())


@pytest.mark.parametrize(
    "names", [("cat",), ("cat", "cat", "dog"), ("a", "x y z w v u t s r q p o"), ("St. Bernard (dog)",)])
@pytest.mark.parametrize("context_tokens", [1, 4])
def test_any_names_and_context(tiny_clip, names, context_tokens):
    prompts = initial_prompt(context_tokens, tiny_clip.token_width, 3)[None]
    assert_same_features_and_gradient(tiny_clip, names, prompts)


def test_duplicated_names_and_prompts_give_equal_features(tiny_clip):
    prompt = initial_prompt(4, tiny_clip.token_width, 1)
    features = PromptEncoder(tiny_clip, ("cat", "sea lion", "cat"))(torch.stack([prompt, prompt]))
    assert torch.allclose(features[:, 0], features[:, 2], atol=1e-6)
    assert torch.allclose(features[0], features[1], atol=1e-6)
    assert not torch.allclose(features[:, 0], features[:, 1], atol=1e-3)


@pytest.mark.parametrize("name", ["", "   "])
def test_an_empty_name_is_refused(tiny_clip, name):
    with pytest.raises(UserError, match="empty name"):
        PromptEncoder(tiny_clip, ("cat", name))


def test_a_name_that_does_not_fit_is_named(tiny_clip):
    encoder = PromptEncoder(tiny_clip, ("cat", "long " * 40))
    with pytest.raises(UserError, match="'long long"):
        encoder(initial_prompt(4, tiny_clip.token_width, 1)[None])
    exact = " ".join(["dog"] * (40 - 1 - 4 - 2))  # "." and EOT take two of what SOS and the context leave
    assert PromptEncoder(tiny_clip, (exact,))(initial_prompt(4, tiny_clip.token_width, 1)[None]).shape == (1, 1, 32)


def test_prompts_without_gradient_are_encoded_once(tiny_clip):
    class Counting(PromptEncoder):
        encoded = 0

        def __call__(self, prompts):
            Counting.encoded += len(prompts)
            return super().__call__(prompts)

    text = TextFeatures(Counting(tiny_clip, NAMES))
    prompts = torch.stack([initial_prompt(4, tiny_clip.token_width, seed) for seed in (1, 2, 3, 1, 2)])
    features = text(prompts)
    assert Counting.encoded == 3
    assert torch.equal(features[0], features[3])
    assert torch.equal(text(prompts[None, :2])[0], features[:2])
    assert Counting.encoded == 3
    assert text(prompts[:1].requires_grad_()).requires_grad
    assert Counting.encoded == 4


def test_features_do_not_depend_on_which_prompts_are_encoded_with_them(tiny_clip):
    """A run that goes on after a kill has forgotten its features, and encodes the prompts in other company."""
    class RoundsByBatch(PromptEncoder):
        """As on a processor whose matrix products round otherwise in a larger batch."""

        def __call__(self, prompts):
            return super().__call__(prompts) + 1e-6 * len(prompts)

    prompts = torch.stack([initial_prompt(4, tiny_clip.token_width, seed) for seed in range(20)])
    together, alone, resumed = (TextFeatures(RoundsByBatch(tiny_clip, NAMES)) for _ in range(3))
    expected = together(prompts)
    assert torch.equal(torch.cat([alone(prompt[None]) for prompt in prompts]), expected)
    assert torch.equal(torch.cat([resumed(prompts[:3]), resumed(prompts[1:])[2:]]), expected)


def test_the_memory_of_features_is_bounded(tiny_clip):
    text = TextFeatures(PromptEncoder(tiny_clip, NAMES), memory_bytes=3 * len(NAMES) * 32 * 4)
    for seed in range(6):
        text(initial_prompt(4, tiny_clip.token_width, seed)[None])
    assert len(text._memory) == 3


def test_the_initial_prompt_is_the_papers():
    prompt = initial_prompt(16, 512, 1)
    assert prompt.shape == (16, 512)
    assert abs(prompt.std().item() - 0.02) < 0.001
    assert torch.equal(prompt, initial_prompt(16, 512, 1))
    assert not torch.equal(prompt, initial_prompt(16, 512, 2))
