"""Every method on two clients, with numbers worked out by hand; what is refused."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_client import cohort_start
from tiny import make_data

from pfedmoap.client import FederatedData, Recipe
from pfedmoap.errors import UserError
from pfedmoap.experiments import build_method
from pfedmoap.federation import Federation, Plan
from pfedmoap.method import OwnImages
from pfedmoap.methods import (
    Context,
    CoOp,
    FedAMP,
    FedOTP,
    FedPer,
    FedPGP,
    FedProx,
    PFedMoAP,
    PFedPrompt,
    PromptFL,
    PromptFLFT,
    ZeroShot,
    ZeroShotOwnClasses,
    ZeroShotPrior,
)
from pfedmoap.server import Pool, Server


class TwoClasses:
    """A text tower that can be worked out by hand: p is the sum of the context tokens, class features are p and -p."""

    encoder = SimpleNamespace(bytes_per_prompt=lambda: 1000)

    def __call__(self, prompts):
        total = prompts.sum(-2, keepdim=True)
        return torch.cat([total, -total], dim=-2)  # (..., m, 2) -> (..., C = 2, d = 2)


def by_hand(method, lr=0.1, rounds=1, momentum=0.0, epochs=1, tokens=1):
    """Client 0: three images (1, 0) of class 0. Client 1: one image (0, 1) of class 1. Everyone starts from p = 0.

    Class 0 scores s f.p and class 1 scores -s f.p with s = 2, so that the cross-entropy of an image f of class 0 is
    -log sigmoid(4 f.p) with the gradient -4 sigmoid(-4 f.p) f, which is -2 f at p = 0; of class 1 with the other sign.
    """
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    if method.spatial:
        features = features[:, None]  # an image of one position
    labels = torch.tensor([0, 0, 0, 1])
    rows = [np.array([0, 1, 2]), np.array([3])]
    data = FederatedData(features[None], labels, features, labels, rows, rows)
    context = Context(TwoClasses(), torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 2.0, torch.zeros(tokens, 2), 1)
    run = Federation(method, Plan(rounds, 1.0, Recipe(epochs, 4, lr, momentum, 0.0)), data, context)
    for _ in run.rounds():
        pass
    return run


def p(*values):
    return torch.tensor([values])


def pull(x):
    """Length of the cross-entropy's gradient where f.p = x for the right class."""
    return 4 / (1 + math.exp(4 * x))


def test_zero_shot_by_hand():
    run = by_hand(ZeroShot())
    assert run.history[0].accuracies == [0.0, 0.0]  # the hand-written features stand crosswise
    assert run.history[0].losses == {} and run.personal == {0: {}, 1: {}}


def test_coop_by_hand():
    run = by_hand(CoOp(), lr=0.1)
    torch.testing.assert_close(run.personal[0]["prompt"], p(0.2, 0.0))  # 0 - 0.1 * (-2 * (1, 0))
    torch.testing.assert_close(run.personal[1]["prompt"], p(0.0, -0.2))
    assert run.history[0].losses == pytest.approx({0: math.log(2), 1: math.log(2)})
    assert run.history[0].accuracies == [1.0, 1.0]


def test_coops_second_round_goes_on_with_its_momentum():
    run = by_hand(CoOp(), lr=0.1, rounds=2, momentum=0.5)
    torch.testing.assert_close(run.personal[0]["prompt"], p(0.2 + 0.1 * (pull(0.2) + 0.5 * 2), 0.0))


def test_promptfl_by_hand():
    run = by_hand(PromptFL(), lr=0.1)
    torch.testing.assert_close(run.server.shared["prompt"], p(0.15, -0.05))  # (3 * (0.2, 0) + 1 * (0, -0.2)) / 4
    assert run.history[0].bytes_up == {0: 8, 1: 8} and run.personal == {0: {}, 1: {}}
    assert run.history[0].accuracies == [1.0, 1.0]


def test_pfedmoap_by_hand_first_round():
    run = by_hand(PFedMoAP(d_gating=2, heads=1, experts=1), lr=0.1)
    torch.testing.assert_close(run.server.shared["prompt"], p(0.15, -0.05))  # no gate yet: as PromptFL ...
    torch.testing.assert_close(run.server.pool[0], p(0.2, 0.0))  # ... but every client's own stays in the pool
    torch.testing.assert_close(run.server.pool[1], p(0.0, -0.2))


def test_promptfl_ft_by_hand():
    run = by_hand(PromptFLFT(final_epochs=1), rounds=1)
    torch.testing.assert_close(run.server.shared["prompt"], p(0.15, -0.05))  # the global prompt stays
    torch.testing.assert_close(run.personal[0]["prompt"], p(0.15 + 0.1 * pull(0.15), -0.05))
    torch.testing.assert_close(run.personal[1]["prompt"], p(0.15, -0.05 - 0.1 * pull(0.05)))
    assert run.history[0].bytes_down == {0: 16, 1: 16}  # once to train, once to fine-tune
    two = by_hand(PromptFLFT(final_epochs=1), rounds=2)
    assert "prompt" in two.personal[0] and two.history[0].bytes_down == {0: 8, 1: 8}


def test_fedper_by_hand():
    run = by_hand(FedPer(), tokens=2)
    torch.testing.assert_close(run.server.shared["shared"], p(0.15, -0.05))
    torch.testing.assert_close(run.personal[0]["own"], p(0.2, 0.0))
    torch.testing.assert_close(run.personal[1]["own"], p(0.0, -0.2))
    assert run.history[0].bytes_up == run.history[0].bytes_down == {0: 8, 1: 8}  # one of the two tokens
    two = by_hand(FedPer(), tokens=2, rounds=2)  # trains on from [new b; own u]: f.p = 0.15 + 0.2
    torch.testing.assert_close(two.personal[0]["own"], p(0.2 + 0.1 * pull(0.35), 0.0))


def test_fedprox_by_hand():
    run = by_hand(FedProx(mu=0.5), epochs=2)  # the second step is held back by mu (p - p_g) = 0.5 * 0.2
    first = 0.2 + 0.1 * (pull(0.2) - 0.5 * 0.2)
    torch.testing.assert_close(run.server.shared["prompt"], p(0.75 * first, -0.25 * first))


def test_fedamp_by_hand():
    run = by_hand(FedAMP(attraction=0.7), rounds=2)
    # round 1 as local training; squared distance 0.08 = sigma, so xi_01 = 1/e, alpha = 1, and the pull is 0.7 (p - u)
    mixture = [(1 - math.exp(-1)) * 0.2, -math.exp(-1) * 0.2]
    expected = p(0.2 + 0.1 * (pull(0.2) - 0.7 * (0.2 - mixture[0])), 0.1 * 0.7 * mixture[1])
    torch.testing.assert_close(run.personal[0]["prompt"], expected)
    assert run.history[0].bytes_down == {0: 0, 1: 0} and run.history[1].bytes_down == {0: 12, 1: 12}


def test_fedamps_weights_are_those_of_three_clients():
    server = Server({}, Pool({0: p(0.0, 0.0), 1: p(1.0, 0.0), 2: p(3.0, 0.0)}), clients=5)
    download = FedAMP().download(server, 0)
    weights = [math.exp(-1 / 4) / 4, math.exp(-9 / 4) / 4]  # squared distances 1, 9, 4 with median 4; alpha = 1 / 4
    torch.testing.assert_close(download["mixture"], p(weights[0] * 1 + weights[1] * 3, 0.0))
    assert download["pull"] == 4.0  # lam / alpha
    same = Server({}, Pool({0: p(1.0, 0.0), 1: p(1.0, 0.0)}), clients=2)
    assert FedAMP().download(same, 0) == FedAMP().download(Server({}, Pool({0: p(1.0, 0.0)}), 2), 0) == {}


def test_pfedprompt_by_hand():
    method, run = PFedPrompt(cache_weight=1.5, cache_sharpness=2.0), by_hand(PFedPrompt())
    torch.testing.assert_close(run.server.shared["prompt"], p(0.15, -0.05))
    own = [OwnImages(torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([0, 1])),
           OwnImages(torch.tensor([[0.0, 1.0]]), torch.tensor([1]))]
    model = {"prompt": torch.tensor([[[0.15, -0.05]], [[0.15, -0.05]]])}
    images = torch.tensor([[[1.0, 0.0]], [[0.8, 0.6]]])
    logits = method.logits(model, method.fixed(model, [], run.context, own), images, run.context)
    score = 2 * (0.8 * 0.15 - 0.6 * 0.05)
    expected = torch.tensor([[[0.3 + 1.5, -0.3 + 1.5 * math.exp(2 * (0.6 - 1))]],
                             [[score, -score + 1.5 * math.exp(2 * (0.6 - 1))]]])
    torch.testing.assert_close(logits, expected)
    assert method.fixed(model, [], run.context) == {}  # the cache enters at test time only


def test_fedotp_by_hand():
    """With one position the plan is forced: half of the mass to each prompt, z = s gamma (Sim_0 + Sim_1) / 2."""
    run = by_hand(FedOTP(mass=0.8))
    torch.testing.assert_close(run.personal[0]["own"], p(0.08, 0.0))  # 0.1 * 2 * 0.8 / 2
    torch.testing.assert_close(run.personal[1]["own"], p(0.0, -0.08))
    torch.testing.assert_close(run.server.shared["prompt"], p(0.06, -0.02))
    assert run.history[0].bytes_up == {0: 8, 1: 8}


def test_fedpgp_by_hand():
    context = Context(TwoClasses(), torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 2.0, torch.zeros(1, 2), 1)
    model = {"prompt": torch.tensor([[[0.6, 0.8]], [[1.0, 0.0]]]), "left": torch.tensor([[[0.5]], [[1.0]]]),
             "right": torch.tensor([[[0.4, -0.2]], [[-1.0, 1.0]]])}
    images, labels = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]), torch.tensor([[0], [1]])
    present = torch.ones(2, 1, dtype=torch.bool)
    loss = FedPGP(mu=0.3, temperature=0.5).loss(model, {}, images, labels, present, context)
    expected = []
    for g, own, x, sign in (((0.6, 0.8), (0.8, 0.7), 0.8, 1), ((1.0, 0.0), (0.0, 1.0), 1.0, -1)):
        away = g[0] * own[0] + g[1] * own[1]  # the same for both classes
        towards = (g[1], -g[0])  # of g with (0, 1) for class 0, and of -g with (1, 0) for class 1
        contrast = [-math.log(math.exp(t / 0.5) / (math.exp(t / 0.5) + math.exp(away / 0.5))) for t in towards]
        expected.append(math.log(1 + math.exp(-4 * sign * x)) + 0.3 * sum(contrast) / 2)
    torch.testing.assert_close(loss, torch.tensor(expected))


def test_fedpgp_shares_the_prompt_alone_and_starts_its_addition_from_seed_and_client():
    run = by_hand(FedPGP(rank=3))
    assert run.history[0].bytes_up == {0: 8, 1: 8} and set(run.personal[0]) == {"left", "right"}
    context = replace(run.context, initial_prompt=torch.zeros(16, 512))
    start = [FedPGP(rank=3).start({"prompt": torch.zeros(16, 512)}, {}, client, context) for client in (0, 0, 1)]
    assert torch.equal(start[0]["left"], start[1]["left"]) and not torch.equal(start[0]["left"], start[2]["left"])
    assert start[0]["right"].shape == (3, 512) and start[0]["right"].std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(("method", "bias"), [
    (ZeroShotOwnClasses(), [[0.0, -math.inf], [-math.inf, 0.0]]),
    (ZeroShotPrior(), [[math.log(3.01 / 3.02), math.log(0.01 / 3.02)], [math.log(0.01 / 1.02), math.log(1.01 / 1.02)]]),
])
def test_controls_by_hand(method, bias):
    """The hand-written features stand crosswise: images score (0, 2) and (2, 0) before the bias."""
    run = by_hand(method)
    own = [OwnImages(torch.ones(3, 2), torch.tensor([0, 0, 0])), OwnImages(torch.ones(1, 2), torch.tensor([1]))]
    images = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    logits = method.logits({}, method.fixed({}, [], run.context, own), images, run.context)
    torch.testing.assert_close(logits, torch.tensor([[[0.0, 2.0]], [[2.0, 0.0]]]) + torch.tensor(bias)[:, None])
    assert run.history[0].accuracies == [1.0, 1.0] and run.history[0].bytes_up == {}


@pytest.mark.parametrize("slots", [1, 2])
def test_the_linear_gate_by_hand(slots):
    """Room for one or two non-local experts, and one is there: w = softmax(W f) over the slots that are filled."""
    method = PFedMoAP(gate="linear", experts=slots, lam=0.5)
    image = torch.tensor([[[0.6, 0.8]]])
    local, other = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([[[0.0, 1.0], [0.5, 0.5]]])
    weight = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [9.0, 9.0]]])[:, : 1 + slots]
    model = {"prompt": local, "gate.linear.weight": weight,
             "gate.linear.bias": torch.tensor([[0.5, 0.0, 9.0]])[:, : 1 + slots]}
    fixed = {"experts": torch.cat([other[:, None], torch.full((1, slots - 1, 2, 2), 7.0)], 1),
             "present": torch.tensor([[True, False]])[:, :slots]}
    logits = method.logits(model, fixed, image, Context(lambda prompts: prompts, torch.zeros(2, 2), 2.0, local[0], 1))
    first = math.exp(0.6 + 0.5) / (math.exp(0.6 + 0.5) + math.exp(1.6))
    mixed = [first * 0.6 + (1 - first) * 0.8, first * 0.8 + (1 - first) * 0.7]
    torch.testing.assert_close(logits, torch.tensor([[[2 * mixed[0] + 0.6, 2 * mixed[1] + 0.8]]]))


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_pfedmoap_logits_by_hand(similarity):
    """Equation 10 in plain arithmetic: d = 4 pooled to 2, one head, one non-local expert, another gate per client."""
    lam, scale, s = 0.5, 3.0, 2.0
    method = PFedMoAP(lam=lam, experts=1, d_gating=2, heads=1, attention_scale=scale, moe_similarity=similarity)
    features = [[[0.1, 0.7, -0.3, 0.2]], [[0.4, -0.1, 0.6, 0.3]]]
    local = [[[0.5, 0.1, 0.2, 0.3], [-0.2, 0.4, 0.1, 0.6]], [[0.3, 0.3, -0.5, 0.1], [0.2, -0.4, 0.4, 0.2]]]
    other = [[[0.6, 0.0, -0.1, 0.2], [0.1, 0.1, 0.3, 0.3]], [[0.2, 0.5, 0.1, 0.4], [-0.3, 0.2, 0.2, 0.1]]]
    matrices = {"query": [[1.0, 2.0], [0.0, 1.0]], "key": [[0.5, 0.0], [1.0, 1.0]], "value": [[2.0, 0.0], [0.0, 1.0]],
                "output": [[1.0, -1.0], [0.5, 1.0]]}
    biases = {"query": [0.1, 0.2], "key": [0.3, -0.1], "value": [0.0, 0.2], "output": [0.1, 0.0]}
    times = [1.0, -0.5]  # client 1's gate

    def affine(name, x, client):
        w, b = matrices[name], biases[name]
        return [times[client] * (w[i][0] * x[0] + w[i][1] * x[1] + b[i]) for i in (0, 1)]

    def dot(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    expected = []
    for client in (0, 1):
        image = features[client][0]
        query = [image[0], image[2]]  # strided pooling
        for label in (0, 1):
            keys = [[text[0], text[2]] for text in (local[client][label], other[client][label])]
            scores = [scale * dot(affine("query", query, client), affine("key", key, client)) for key in keys]
            total = sum(map(math.exp, scores))
            values = [affine("value", key, client) for key in keys]
            mixed = [sum(math.exp(score) / total * value[i] for score, value in zip(scores, values, strict=True))
                     for i in (0, 1)]
            enhanced = affine("output", mixed, client)
            match = dot(query, enhanced)
            if similarity == "cosine":
                match /= math.hypot(*query) * math.hypot(*enhanced)
            expected.append(s * match + lam * s * dot(image, local[client][label]))

    model = {"prompt": torch.tensor(local)}
    for name in matrices:
        for part, table in (("weight", matrices), ("bias", biases)):
            model[f"gate.{name}.{part}"] = torch.stack([torch.tensor(table[name]) * factor for factor in times])
    context = Context(lambda prompts: prompts, torch.zeros(2, 4), s, torch.zeros(2, 4), 1)
    fixed = {"experts": torch.tensor(other)[:, None, :, ::2], "present": torch.ones(2, 1, dtype=torch.bool)}
    logits = method.logits(model, fixed, torch.tensor(features), context)
    torch.testing.assert_close(logits.flatten(), torch.tensor(expected))


def test_a_large_lambda_ranks_as_the_local_prompt_alone(context):
    data = make_data()
    start, fixed = cohort_start(context, [0, 1, 2, 3], PFedMoAP(d_gating=16, heads=4, experts=2))
    images = data.test_features[torch.from_numpy(np.stack(data.test_rows))]
    alone = PFedMoAP(gate="none").logits(start, {}, images, context)
    mixed = PFedMoAP(d_gating=16, heads=4, lam=1e6).logits(start, fixed, images, context)
    assert torch.equal(alone.argsort(-1), mixed.argsort(-1))


def test_permuting_experts_changes_no_logit(context):
    method = PFedMoAP(d_gating=16, heads=4, experts=3)
    start, fixed = cohort_start(context, [0, 1], method)
    images = make_data().test_features[:10].view(2, 5, -1)
    permuted = {"experts": fixed["experts"][:, [2, 0, 1]], "present": fixed["present"][:, [2, 0, 1]]}
    torch.testing.assert_close(method.logits(start, fixed, images, context),
                               method.logits(start, permuted, images, context), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "settings", "message"), [
    ("pfedmaop", {}, "did you mean 'pfedmoap'"),
    ("promptfl", {"lam": 1.0}, "no setting of promptfl 'lam'"),
    ("pfedmoap", {"lambda": 1.0}, "did you mean 'lam'"),
])
def test_names_that_are_not_known_are_refused_with_the_closest(name, settings, message):
    with pytest.raises(UserError, match=message):
        build_method(name, **settings)
