"""The whole arithmetic against a plain one in float64, written from SPEC 1 to 3: loops, full token rows, torch's SGD.

The plain form shares nothing with the package but the weights, the tokens and which images are in which batch.
"""

import math
from types import SimpleNamespace

import open_clip
import pytest
import torch
from torch.nn import functional as F

from pfedmoap import clip as clips
from pfedmoap.client import Batches, Recipe, local_update
from pfedmoap.clip import Clip
from pfedmoap.gating import attend, initial_gate, pool
from pfedmoap.methods import Context, PFedMoAP
from pfedmoap.prompts import PromptEncoder, TextFeatures

NAMES = ("cat", "hard-leaved pocket orchid", "sea lion", "dog", "old red car")
TOKENS, BATCH, STEPS = 8, 6, 8


# --- the plain form


def plain_text_features(clip: Clip, prompt: torch.Tensor) -> torch.Tensor:
    """t_c(p) for every class, (C, d), from the text tower's own weights, one full row of tokens per class."""
    weights = {name: tensor.double() for name, tensor in clip.model.state_dict().items()}
    heads = open_clip.get_model_config(clip.name)["text_cfg"]["heads"] if clip.name == "embedded_clip" else 4
    length = clip.model.context_length
    rows = clip.tokenizer([" ".join(["x"] * len(prompt)) + f" {name}." for name in NAMES])[:, :length]
    features = []
    for row in rows:
        x = weights["token_embedding.weight"][row]  # (77, e)
        x = torch.cat([x[:1], prompt, x[1 + len(prompt) :]]) + weights["positional_embedding"]
        for layer in range(clip.model.transformer.layers):
            x = plain_block(x, {name.removeprefix(f"transformer.resblocks.{layer}."): tensor
                                for name, tensor in weights.items()}, heads, clip.quick_gelu)
        x = plain_norm(x[row.argmax()], weights, "ln_final") @ weights["text_projection"]  # EOT is the largest token
        features.append(x / (x * x).sum().sqrt())
    return torch.stack(features)


def plain_block(x, weights, heads, quick_gelu):
    """Causal attention and an MLP, each before a residual: (77, e) -> (77, e)."""
    normed, width = plain_norm(x, weights, "ln_1"), x.shape[1] // heads
    q, k, v = (normed @ weights["attn.in_proj_weight"].T + weights["attn.in_proj_bias"]).chunk(3, dim=1)
    outputs = []
    for head in range(heads):
        at = slice(head * width, (head + 1) * width)
        scores = q[:, at] @ k[:, at].T / math.sqrt(width)
        future = torch.ones_like(scores).triu(1).bool()
        outputs.append(scores.masked_fill(future, -math.inf).softmax(1) @ v[:, at])
    x = x + torch.cat(outputs, 1) @ weights["attn.out_proj.weight"].T + weights["attn.out_proj.bias"]
    hidden = plain_norm(x, weights, "ln_2") @ weights["mlp.c_fc.weight"].T + weights["mlp.c_fc.bias"]
    hidden = hidden / (1 + (-1.702 * hidden).exp()) if quick_gelu else hidden * (1 + (hidden / 2**0.5).erf()) / 2
    return x + hidden @ weights["mlp.c_proj.weight"].T + weights["mlp.c_proj.bias"]


def plain_norm(x, weights, name):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weights[f"{name}.weight"] \
        + weights[f"{name}.bias"]


def plain_gate(gate, image, experts, sizes):
    """The gate's output for one image and one class: (d,), (J, d) -> (g,), and its attention (heads, J)."""
    width = image.shape[0] // sizes.ratio // sizes.heads
    q, keys = image[:: sizes.ratio], experts[:, :: sizes.ratio]  # strided subsampling
    linear = lambda name, x: x @ gate[f"gate.{name}.weight"].T + gate[f"gate.{name}.bias"]  # noqa: E731
    q, k, v = linear("query", q), linear("key", keys), linear("value", keys)
    outputs, weights = [], []
    for head in range(sizes.heads):
        at = slice(head * width, (head + 1) * width)
        weights.append((10 * k[:, at] @ q[at]).softmax(0))  # (J,)
        outputs.append(weights[-1] @ v[:, at])
    return linear("output", torch.cat(outputs)), torch.stack(weights)


def plain_logits(model, experts, image, text, sizes):
    """z_c = s <q, o_c> + 0.5 s <f, t_c> of one image: (C,)."""
    logits = []
    for label in range(len(NAMES)):
        of_class = torch.stack([text[label], *(expert[label] for expert in experts)])
        output, _ = plain_gate(model, image, of_class, sizes)
        logits.append(sizes.scale * image[:: sizes.ratio] @ output + 0.5 * sizes.scale * image @ text[label])
    return torch.stack(logits)


def plain_loss(model, experts, images, labels, clip, sizes):
    text = plain_text_features(clip, model["prompt"])
    losses = []
    for image, label in zip(images, labels, strict=True):
        logits = plain_logits(model, experts, image, text, sizes)
        losses.append((logits - logits.max()).exp().sum().log() + logits.max() - logits[label])
    return sum(losses) / len(losses)


# --- what both forms compute


@pytest.fixture(scope="module", params=["embedded", "random"])
def case(request, tiny_clip):
    """A CLIP, two clients with 3 and 1 experts, a prompt and a gate each, and images near their labels' features."""
    clip = clips.load_clip() if request.param == "embedded" else tiny_clip
    d_gating, heads = (128, 8) if request.param == "embedded" else (16, 4)
    draw = torch.manual_seed(7)
    prompts = 0.02 * torch.randn(6, TOKENS, clip.token_width, generator=draw)
    text = TextFeatures(PromptEncoder(clip, NAMES))
    context = Context(text, text(prompts[:1])[0], clip.logit_scale, prompts[0], 1)
    method = PFedMoAP(experts=3, d_gating=d_gating, heads=heads)
    downloads = [{"prompt": prompts[0], "experts": prompts[2:5]}, {"prompt": prompts[0], "experts": prompts[5:]}]
    gates = [initial_gate(d_gating, 1, client) for client in (0, 1)]
    start = {"prompt": prompts[:2]} | {name: torch.stack([gate[name] for gate in gates]) for name in gates[0]}
    labels = torch.randint(len(NAMES), (24,), generator=draw)
    images = context.handwritten[labels] + 0.3 * torch.randn(24, clip.embed_dim, generator=draw)
    return SimpleNamespace(
        clip=clip, context=context, method=method, downloads=downloads, start=start, labels=labels,
        images=F.normalize(images, dim=-1), rows=torch.randint(24, (2, STEPS, BATCH), generator=draw),
        fixed=method.fixed(start, downloads, context),
        sizes=SimpleNamespace(ratio=clip.embed_dim // d_gating, heads=heads, scale=clip.logit_scale))


def double_model(case, client):
    return {name: tensor[client].double().requires_grad_() for name, tensor in case.start.items()}


def double_experts(case, client):
    return [plain_text_features(case.clip, prompt.double()) for prompt in case.downloads[client]["experts"]]


def assert_near(ours, expected, tolerance):
    torch.testing.assert_close(ours.detach().double(), expected.detach(), atol=tolerance, rtol=0)


def test_text_features_and_their_gradient(case):
    ours, plain = case.start["prompt"][:1].clone().requires_grad_(), case.start["prompt"][0].double().requires_grad_()
    features, expected = case.context.text(ours)[0], plain_text_features(case.clip, plain)
    assert_near(features, expected, 2e-6)
    weights = torch.randn(expected.shape, generator=torch.manual_seed(1))
    (features * weights).sum().backward()
    (expected * weights).sum().backward()
    assert (ours.grad[0] - plain.grad).norm() < 1e-5 * plain.grad.norm()


def test_the_gate_and_its_attention(case):
    method = case.method
    text = case.context.text(case.start["prompt"])
    inputs = method.gate_inputs(case.fixed, case.images[case.rows[:, 0]], text)
    output, attention = attend(case.start, **inputs)  # (clients, B, C, g), (clients, B, C, heads, J)
    assert torch.equal(inputs["queries"], pool(case.images[case.rows[:, 0]], method.d_gating))
    for client, experts in ((0, 4), (1, 2)):
        model, lent = double_model(case, client), double_experts(case, client)
        local = plain_text_features(case.clip, model["prompt"])
        for image in range(BATCH):
            for label in range(len(NAMES)):
                of_class = torch.stack([local[label], *(expert[label] for expert in lent)])
                picture = case.images[case.rows[client, 0, image]].double()
                expected, weights = plain_gate(model, picture, of_class, case.sizes)
                assert_near(output[client, image, label], expected, 2e-6)
                assert_near(attention[client, image, label, :, :experts], weights, 2e-6)


def test_logits_loss_and_gradients(case):
    images, labels = case.images[case.rows[:, 0]], case.labels[case.rows[:, 0]]
    model = {name: tensor.clone().requires_grad_() for name, tensor in case.start.items()}
    logits = case.method.logits(model, case.fixed, images, case.context)  # (clients, B, C)
    losses = case.method.loss(model, case.fixed, images, labels, torch.ones(2, BATCH, dtype=torch.bool), case.context)
    losses.sum().backward()
    for client in (0, 1):
        plain, experts = double_model(case, client), double_experts(case, client)
        text = plain_text_features(case.clip, plain["prompt"])
        for image in range(BATCH):
            expected = plain_logits(plain, experts, images[client, image].double(), text, case.sizes)
            assert_near(logits[client, image], expected, 1e-4)
        loss = plain_loss(plain, experts, images[client].double(), labels[client], case.clip, case.sizes)
        loss.backward()
        assert_near(losses[client], loss, 1e-5)
        for name, tensor in plain.items():
            difference = (model[name].grad[client] - tensor.grad).norm()
            assert difference < 1e-5 * tensor.grad.norm() + 1e-5, name  # three biases have no gradient at all
        assert plain["prompt"].grad.norm() > 1e-2 < plain["gate.value.weight"].grad.norm()


def test_eight_steps_of_two_clients_with_unequal_numbers_of_experts(case):
    recipe = Recipe(epochs=1, batch_size=BATCH, lr=0.002, momentum=0.9, weight_decay=5e-4)
    batches = Batches(case.rows, torch.zeros(2, STEPS, dtype=torch.int64), torch.ones(2, STEPS),
                      torch.ones(2, BATCH, dtype=torch.bool), (STEPS, STEPS))
    trained = local_update(case.method, case.start, case.fixed, batches, case.images[None], case.labels, recipe,
                           case.context)
    for client in (0, 1):
        model, experts = double_model(case, client), double_experts(case, client)
        gate = [tensor for name, tensor in model.items() if name != "prompt"]
        optimizer = torch.optim.SGD([{"params": [model["prompt"]], "lr": 0.002}, {"params": gate, "lr": 0.01}],
                                    momentum=0.9, weight_decay=5e-4)
        losses = []
        for rows in case.rows[client]:
            optimizer.zero_grad()
            losses.append(plain_loss(model, experts, case.images[rows].double(), case.labels[rows], case.clip,
                                     case.sizes))
            losses[-1].backward()
            optimizer.step()
        assert_near(trained.losses[client], sum(losses) / STEPS, 1e-4)
        moved = (model["prompt"] - case.start["prompt"][client]).norm()
        assert (trained.tensors["prompt"][client] - model["prompt"]).norm() < 1e-5 * moved
        for name, tensor in model.items():
            if name != "prompt":
                assert_near(trained.tensors[name][client], tensor, 2e-6)
        assert moved > 0.01 and (model["gate.value.weight"] - case.start["gate.value.weight"][client]).norm() > 1e-3
