"""Single verbs of the methods, with numbers worked out by hand and models that differ from where training starts."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from test_methods import TwoClasses, by_hand, p

from pfedmoap.gating import attend, initial_gate
from pfedmoap.methods import Context, FedAMP, FedOTP, FedPer, FedPGP, FedProx, PFedMoAP, PromptFLFT
from pfedmoap.randomness import generator
from pfedmoap.server import Pool, Server

CONTEXT = Context(TwoClasses(), torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 2.0, torch.zeros(4, 2), 7)


def test_fedprox_measures_from_the_global_prompt():
    method, anchor = FedProx(mu=0.5), {"prompt": torch.tensor([[[1.0, 2.0]], [[3.0, -1.0]]])}
    moved = {"prompt": torch.tensor([[[2.0, 4.0]], [[3.0, -1.0]]])}
    assert method.proximal_term(moved, method.fixed(anchor, [], CONTEXT)).tolist() == [0.25 * (1 + 4), 0.0]


def test_fedotp_trains_its_own_prompt_on():
    """z = +- s gamma (f.p + f.own) / 2: from (0.06, -0.02) and (0.08, 0) an image (1, 0) has a lead of 0.224."""
    run = by_hand(FedOTP(mass=0.8), rounds=2)
    torch.testing.assert_close(run.personal[0]["own"], p(0.08 + 0.1 * 1.6 / (1 + math.exp(0.224)), 0.0))


def test_promptfl_ft_is_tested_with_its_own_prompt_once_it_has_one():
    download, own = {"prompt": p(1.0, 2.0)}, {"prompt": p(3.0, 4.0)}
    assert PromptFLFT().tested(download, {}, 0, CONTEXT)["prompt"] is download["prompt"]
    assert PromptFLFT().tested(download, own, 0, CONTEXT)["prompt"] is own["prompt"]
    assert by_hand(PromptFLFT(final_epochs=3), epochs=2).epochs == [2, 2]  # of the rounds


@pytest.mark.parametrize(("shared", "tokens"), [(None, 2), (0, 0), (1, 1), (4, 4)])
def test_fedper_shares_the_first_tokens(shared, tokens):
    context = replace(CONTEXT, initial_prompt=torch.arange(8.0).view(4, 2))
    method = FedPer(shared_tokens=shared)
    assert torch.equal(method.initial_shared(context)["shared"], context.initial_prompt[:tokens])
    start = method.start({"shared": p(9.0, 9.0)}, {}, 0, context)
    assert torch.equal(start["own"], context.initial_prompt[tokens:]) and torch.equal(start["shared"], p(9.0, 9.0))


def test_fedpgps_addition_is_drawn_from_seed_and_client():
    draw = generator(7, "fedpgp", 3)
    start = FedPGP(rank=3).start({"prompt": CONTEXT.initial_prompt}, {}, 3, CONTEXT)
    for name, shape in (("left", (4, 3)), ("right", (3, 2))):
        assert torch.equal(start[name], 0.02 * torch.from_numpy(draw.standard_normal(shape)).float())


def test_fedpgp_trains_its_own_addition_on():
    own = {"left": torch.ones(4, 3), "right": torch.zeros(3, 2)}
    start = FedPGP(rank=3).start({"prompt": CONTEXT.initial_prompt}, own, 3, CONTEXT)
    assert start["left"] is own["left"] and start["right"] is own["right"]


@pytest.mark.parametrize("mu", [0.0, 1.0])
def test_fedpgps_contrast_has_its_weight(mu):
    """g = p_i = (1, 0): cos(t_g, t_i) is 1 for both classes, cos(t_g, t_0) 0 and -1; k = 0.5."""
    model = {"prompt": p(1.0, 0.0)[None], "left": torch.zeros(1, 1, 1), "right": torch.zeros(1, 1, 2)}
    image, label = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[0]])
    loss = FedPGP(rank=1, mu=mu).loss(model, {}, image, label, torch.ones(1, 1, dtype=torch.bool), CONTEXT)
    contrast = (math.log(1 + math.exp((1 - 0) / 0.5)) + math.log(1 + math.exp((1 + 1) / 0.5))) / 2
    assert loss.tolist() == [pytest.approx(math.log(1 + math.exp(-4)) + mu * contrast, rel=1e-5)]


def test_fedamp_without_a_mixture_pulls_nobody():
    model = {"prompt": torch.stack([p(1.0, 2.0), p(3.0, 4.0)])}
    context = replace(CONTEXT, initial_prompt=p(7.0, 7.0))
    given = {"mixture": p(1.0, 1.0), "pull": torch.tensor(0.5)}
    fixed = FedAMP().fixed(model, [{}, given], context)
    assert torch.equal(fixed["mixture"], torch.stack([p(0.0, 0.0), p(1.0, 1.0)])) and fixed["pull"].tolist() == [0, 0.5]
    assert FedAMP().start({}, {}, 0, context) == {"prompt": context.initial_prompt}
    assert FedAMP().initial_shared(context) == {}


def test_fedamp_of_two_clients_mixes_by_one_over_e():
    download = FedAMP(attraction=3.0).download(Server({}, Pool({0: p(0.0, 0.0), 1: p(2.0, 0.0)}), 2), 0)
    torch.testing.assert_close(download["mixture"], p(2 * math.exp(-1), 0.0))  # the median is the only distance
    assert download["pull"] == 3.0


def test_fedamp_with_one_client_of_the_pool_or_none_lends_nothing():
    for entries in ({}, {0: p(1.0, 0.0)}, {1: p(1.0, 0.0), 2: p(2.0, 0.0)}):
        assert FedAMP().download(Server({}, Pool(entries), 3), 0) == {}


def test_a_gates_and_a_frozen_prompts_learning_rate():
    assert PFedMoAP(gate_lr=0.3).learning_rate("gate.key.bias", 0.1) == 0.3
    assert PFedMoAP(gate_lr=0.3).learning_rate("prompt", 0.1) == 0.1
    frozen = PFedMoAP(gate_lr=0.3, train_prompt=False)
    assert frozen.learning_rate("prompt", 0.1) == 0.0 and frozen.learning_rate("gate.key.bias", 0.1) == 0.3


def test_the_gate_gets_pooled_features_and_its_scale():
    """Widths 8 pooled to 4, with two heads: a scaled dot product has the factor (4 / 2) ** -0.5."""
    draw = torch.manual_seed(0)
    images, text = torch.randn(1, 5, 8, generator=draw), torch.randn(1, 3, 8, generator=draw)
    fixed = {"experts": torch.randn(1, 2, 3, 4, generator=draw), "present": torch.tensor([[True, False]])}
    released = PFedMoAP(d_gating=4, heads=2).gate_inputs(fixed, images, text)
    assert (released["scale"], released["heads"], released["trained"]) == (10.0, 2, 1)
    assert torch.equal(released["queries"], images[..., ::2]) and torch.equal(released["experts"][:, 0], text[..., ::2])
    method = PFedMoAP(d_gating=4, heads=2, attention_scale=None, pooling="average")
    paper = method.gate_inputs(fixed, images, text)
    assert paper["scale"] == pytest.approx(2**-0.5)
    torch.testing.assert_close(paper["queries"], (images[..., ::2] + images[..., 1::2]) / 2)
    torch.testing.assert_close(paper["experts"][:, 0], (text[..., ::2] + text[..., 1::2]) / 2)
    assert torch.equal(paper["experts"][:, 1:], fixed["experts"]) and paper["present"].tolist() == [[True, True, False]]


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_the_attentions_entropy_is_each_images_own(similarity):
    """Over 1 + K experts that are there, divided by the log of their number; the mean over classes and heads."""
    draw = torch.manual_seed(0)
    method = PFedMoAP(d_gating=4, heads=2, experts=2, moe_similarity=similarity)
    gates = [initial_gate(4, 7, client) for client in (0, 1)]
    model = {"prompt": torch.randn(2, 3, 4, generator=draw)} | {
        name: torch.stack([gate[name] for gate in gates]) for name in gates[0]}
    images, experts = torch.randn(2, 5, 4, generator=draw), torch.randn(2, 2, 3, 4, generator=draw)
    present = torch.tensor([[True, True], [True, False]])
    context = replace(CONTEXT, text=lambda prompts: prompts)
    fixed = {"experts": experts, "present": present}
    logits, numbers = method.examine(model, fixed, images, context)
    assert torch.equal(logits, method.logits(model, fixed, images, context)) and list(numbers) == ["attention_entropy"]
    everyone = torch.cat([model["prompt"][:, None], experts], 1)
    _, weights = attend(model, images, everyone, F.pad(present, (1, 0), value=True), heads=2, scale=10.0)
    for client, count in ((0, 3), (1, 2)):
        for image in range(5):
            entropies = [-sum(w * math.log(w) for w in row[:count]) / math.log(count)
                         for row in weights[client, image].flatten(0, 1).tolist()]
            found = numbers["attention_entropy"][client, image].item()
            assert found == pytest.approx(sum(entropies) / 6, rel=1e-4)
    lonely = {"experts": experts, "present": torch.tensor([[True, True], [False, False]])}
    assert method.examine(model, lonely, images, context)[1] == {}
