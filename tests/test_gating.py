"""The gate against torch.nn.MultiheadAttention."""

import pytest
import torch

from pfedmoap.gating import (
    PROJECTIONS,
    attend,
    cosine,
    dot_product,
    initial_gate,
    initial_linear_gate,
    pool,
)
from pfedmoap.randomness import generator


def gates(clients, width=128):
    parts = [initial_gate(width, 1, client) for client in range(clients)]
    return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}


def as_torch(gate, client, heads, scale):
    """The same gate as torch's module, whose fixed scale is corrected in the query projection."""
    width = gate["gate.query.bias"].shape[-1]
    module = torch.nn.MultiheadAttention(width, heads, batch_first=True)
    correction = scale * (width / heads) ** 0.5
    weights = {name: (gate[f"gate.{name}.weight"][client], gate[f"gate.{name}.bias"][client]) for name in PROJECTIONS}
    weights["query"] = tuple(part * correction for part in weights["query"])
    with torch.no_grad():
        module.in_proj_weight.copy_(torch.cat([weights[name][0] for name in ("query", "key", "value")]))
        module.in_proj_bias.copy_(torch.cat([weights[name][1] for name in ("query", "key", "value")]))
        module.out_proj.weight.copy_(weights["output"][0])
        module.out_proj.bias.copy_(weights["output"][1])
    return module


@pytest.mark.parametrize("scale", [10.0, 0.25])
def test_equals_torchs_attention_for_every_number_of_experts(scale):
    generator = torch.manual_seed(0)
    counts, classes, images = (4, 1, 3), 5, 6
    gate = gates(3)
    queries = torch.randn(3, images, 128, generator=generator)
    experts = torch.randn(3, max(counts), classes, 128, generator=generator)
    present = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    output, weights = attend(gate, queries, experts, present, heads=8, scale=scale)
    for client, count in enumerate(counts):
        module = as_torch(gate, client, 8, scale)
        for label in range(classes):
            keys = experts[client, :count, label].expand(images, -1, -1)  # (B, J, g)
            expected, attention = module(queries[client, :, None], keys, keys, average_attn_weights=False)
            torch.testing.assert_close(output[client, :, label], expected[:, 0], atol=2e-6, rtol=1e-5)
            torch.testing.assert_close(weights[client, :, label, :, :count], attention[:, :, 0], atol=2e-6, rtol=1e-5)
        assert (weights[client, ..., count:] == 0).all()


def test_gradients_are_torchs_and_fixed_experts_get_none():
    generator = torch.manual_seed(0)
    gate = {name: tensor.requires_grad_() for name, tensor in gates(1).items()}
    queries, experts = torch.randn(1, 6, 128, generator=generator), torch.randn(1, 4, 5, 128, generator=generator)
    wanted, module = torch.randn(6, 5, 128, generator=generator), as_torch(gate, 0, 8, 10.0)
    keys = experts[0].transpose(0, 1).repeat_interleave(6, 0).requires_grad_()  # (C*B, J, g)
    output, _ = module(queries[0].repeat(5, 1)[:, None], keys, keys)  # (C*B, 1, g)
    (output.unflatten(0, (5, 6)).squeeze(2).transpose(0, 1) * wanted).sum().backward()
    expected = keys.grad.unflatten(0, (5, 6)).sum(1).transpose(0, 1)  # (J, C, g)
    of_values = module.in_proj_weight.grad[256:]
    for trained in (None, 1, 3):
        leaf = experts.clone().requires_grad_()
        output, _ = attend(gate, queries, leaf, torch.ones(1, 4, dtype=bool), heads=8, scale=10.0, trained=trained)
        found, weight = torch.autograd.grad((output[0] * wanted).sum(), [leaf, gate["gate.value.weight"]])
        torch.testing.assert_close(found[0, :trained], expected[:trained], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(weight[0], of_values, atol=1e-4, rtol=1e-4)
        assert trained is None or (found[0, trained:] == 0).all()


def test_the_order_of_experts_does_not_matter():
    generator = torch.manual_seed(0)
    queries, experts = torch.randn(2, 3, 128, generator=generator), torch.randn(2, 5, 4, 128, generator=generator)
    order = torch.tensor([3, 0, 4, 2, 1])
    present = torch.tensor([[True] * 5, [True, True, True, False, False]])
    straight, _ = attend(gates(2), queries, experts, present, heads=8, scale=10.0)
    permuted, _ = attend(gates(2), queries, experts[:, order], present[:, order], heads=8, scale=10.0)
    torch.testing.assert_close(straight, permuted, atol=1e-6, rtol=1e-5)


def test_a_lone_expert_goes_through_one_linear_map():
    gate = gates(1)
    experts = torch.randn(1, 1, 3, 128, generator=torch.manual_seed(0))
    output, _ = attend(gate, torch.randn(1, 2, 128), experts, torch.ones(1, 1, dtype=torch.bool), heads=8, scale=10.0)
    value = torch.nn.functional.linear(experts[0, 0], gate["gate.value.weight"][0], gate["gate.value.bias"][0])
    expected = torch.nn.functional.linear(value, gate["gate.output.weight"][0], gate["gate.output.bias"][0])
    torch.testing.assert_close(output[0], expected.expand(2, -1, -1), atol=1e-6, rtol=1e-5)


def test_gates_are_torchs_linear_layers_and_belong_to_a_client():
    gate = initial_gate(128, 1, 0)
    assert sum(tensor.numel() for tensor in gate.values()) == 66_048  # 4 (128^2 + 128)
    assert all(tensor.abs().max() <= 128**-0.5 for tensor in gate.values())
    assert gate["gate.key.weight"].std().item() == pytest.approx(128**-0.5 / 3**0.5, rel=0.02)
    assert torch.equal(gate["gate.key.weight"], initial_gate(128, 1, 0)["gate.key.weight"])
    assert not torch.equal(gate["gate.key.weight"], initial_gate(128, 1, 1)["gate.key.weight"])
    assert not torch.equal(gate["gate.key.weight"], initial_gate(128, 2, 0)["gate.key.weight"])


@pytest.mark.parametrize(("width", "published"), [
    (32, 4.2e3), (64, 16.6e3), (128, 66.0e3), (256, 263.2e3), (512, 1.1e6), (1024, 4.2e6)])
def test_gates_have_the_sizes_that_table_8_prints(width, published):
    assert sum(tensor.numel() for tensor in initial_gate(width, 1, 0).values()) == pytest.approx(published, rel=0.05)


def test_gates_are_drawn_from_seed_and_client_one_tensor_after_the_other():
    """What committed results rest on; all within +-width ** -0.5."""
    draw, gate = generator(7, "gate", 3), initial_gate(4, 7, 3)
    for name, tensor in gate.items():
        expected = torch.from_numpy(draw.uniform(-0.5, 0.5, (4, 4) if name.endswith("weight") else 4)).float()
        assert torch.equal(tensor, expected), name
    assert list(gate) == [f"gate.{name}.{kind}" for name in PROJECTIONS for kind in ("weight", "bias")]
    draw, gate = generator(7, "gate", 3), initial_linear_gate(16, 3, 7, 3)
    assert torch.equal(gate["gate.linear.weight"], torch.from_numpy(draw.uniform(-0.25, 0.25, (3, 16))).float())
    assert torch.equal(gate["gate.linear.bias"], torch.from_numpy(draw.uniform(-0.25, 0.25, 3)).float())


def test_pooling():
    features = torch.arange(8.0)
    assert pool(features, 4).tolist() == [0, 2, 4, 6]
    assert pool(features, 4, "average").tolist() == [0.5, 2.5, 4.5, 6.5]
    assert torch.equal(pool(features, 8), features)
    clients = torch.stack([features, -features])[:, None]  # (clients, B, d)
    for pooling in ("stride", "average"):
        assert torch.equal(pool(clients, 4, pooling)[1, 0], -pool(features, 4, pooling))


def test_the_dot_product_is_that_of_the_enhanced_features():
    generator = torch.manual_seed(0)
    queries, experts = torch.randn(2, 3, 128, generator=generator), torch.randn(2, 5, 4, 128, generator=generator)
    present = torch.tensor([[True] * 5, [True, False, True, False, False]])
    gate = gates(2)
    enhanced, weights = attend(gate, queries, experts, present, heads=8, scale=10.0)
    fast, same_weights = dot_product(gate, queries, experts, present, heads=8, scale=10.0)
    assert torch.equal(weights, same_weights)
    torch.testing.assert_close(fast, torch.einsum("nbg,nbcg->nbc", queries, enhanced), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("width", [128, 4])  # more and less than there are rows of experts
def test_the_dot_product_has_the_gradients_of_the_enhanced_features_where_experts_are_trained(width):
    draw, heads = torch.manual_seed(0), max(2, width // 16)
    queries, experts = torch.randn(2, 3, width, generator=draw), torch.randn(2, 4, 5, width, generator=draw)
    present, wanted = torch.tensor([[True] * 4, [True, False, True, False]]), torch.randn(2, 3, 5, generator=draw)
    gate = {name: tensor.requires_grad_() for name, tensor in gates(2, width).items()}

    def gradients(form, trained):
        leaf = experts.clone().requires_grad_()
        match = form(gate, queries, leaf, present, heads=heads, scale=1.0, trained=trained)
        return torch.autograd.grad((match * wanted).sum(), [leaf, *gate.values()])

    plain, *of_gate = gradients(lambda gate, queries, *rest, **settings: torch.einsum(
        "nbg,nbcg->nbc", queries, attend(gate, queries, *rest, **settings)[0]), None)
    for trained in (None, 1, 3):
        found, *of_fast = gradients(lambda *inputs, **settings: dot_product(*inputs, **settings)[0], trained)
        torch.testing.assert_close(found[:, :trained], plain[:, :trained], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(of_fast, of_gate, atol=1e-4, rtol=1e-3)
        assert trained is None or not found[:, trained:].any()


def test_cosine():
    queries, enhanced = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[[1.0, 0.0], [0.0, 2.0]]]])
    torch.testing.assert_close(cosine(queries, enhanced), torch.tensor([[[0.6, 0.8]]]))
