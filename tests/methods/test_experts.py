"""What pFedMoAP's clients borrow, and the gates that they start from, on features that are the prompts themselves."""

import pytest
import torch

from pfedmoap.gating import initial_gate, initial_linear_gate
from pfedmoap.methods import Context, PFedMoAP
from pfedmoap.randomness import generator
from pfedmoap.server import Pool, Server

GLOBAL = torch.arange(12.0).view(3, 4)  # of three classes, width 4
PROMPTS = {client: GLOBAL + 10 * client for client in range(4)}
CONTEXT = Context(lambda prompts: prompts, torch.zeros(3, 4), 2.0, GLOBAL, 7)
GATED = {"prompt": torch.stack([PROMPTS[0], PROMPTS[1]]), "gate.any": torch.zeros(2)}  # two clients with a gate


def server():
    made = Server({"prompt": GLOBAL}, Pool(PROMPTS), clients=4, seed=7)
    made.round = 5
    return made


def lent(*clients):
    return {"prompt": GLOBAL, "experts": torch.stack([PROMPTS[client] for client in clients])}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("experts", "client", "chosen"), [
    (2, 0, [1, 2]), (9, 2, [1, 3, 0]), ((0, 1, 3, 2), 1, [0]), ((0, 1, 3, 2), 3, [2, 1])], ids=str)
def test_the_nearest(experts, client, chosen):
    assert_equal(PFedMoAP(experts=experts).download(server(), client), lent(*chosen))


def test_random_ones_are_drawn_from_seed_round_and_client():
    method, made = PFedMoAP(experts=2, expert_choice="random"), server()
    for made.round in (5, 6, 7):
        for client in range(4):
            others = [other for other in range(4) if other != client]
            chosen = generator(7, "experts", made.round, client).permutation(others)[:2].tolist()
            assert_equal(method.download(made, client), lent(*chosen))


@pytest.mark.parametrize("method", [PFedMoAP(experts=0), PFedMoAP(expert_choice="global")], ids=["none", "global"])
def test_nobody_is_a_stack_of_no_prompts(method):
    assert_equal(method.download(server(), 1), {"prompt": GLOBAL, "experts": torch.zeros(0, 3, 4)})


def test_newcomers_and_who_has_no_gate_get_the_global_prompt_alone():
    assert PFedMoAP().download(server(), 9).keys() == PFedMoAP(gate="none").download(server(), 1).keys() == {"prompt"}


def test_experts_are_encoded_once_pooled_and_padded():
    fixed = PFedMoAP(d_gating=2, heads=1, experts=3).fixed(GATED, [lent(2, 3), lent(1)], CONTEXT)
    assert fixed["present"].tolist() == [[True, True], [True, False]]
    assert torch.equal(fixed["experts"][0], torch.stack([PROMPTS[2], PROMPTS[3]])[..., ::2])
    assert torch.equal(fixed["experts"][1, 0], PROMPTS[1][..., ::2]) and not fixed["experts"][1, 1].any()
    average = PFedMoAP(d_gating=2, heads=1, pooling="average").fixed(GATED, [lent(2), lent(1)], CONTEXT)
    torch.testing.assert_close(average["experts"][0, 0], (PROMPTS[2][:, ::2] + PROMPTS[2][:, 1::2]) / 2)


def test_the_linear_gate_has_room_for_all_of_them():
    fixed = PFedMoAP(gate="linear", experts=(1, 3)).fixed(GATED, [lent(2), lent(1)], CONTEXT)
    assert fixed["present"].tolist() == [[True, False, False]] * 2 and fixed["experts"].shape == (2, 3, 3, 4)
    assert torch.equal(fixed["experts"][1, 0], PROMPTS[1])


@pytest.mark.parametrize("gate", ["attention", "linear"])
def test_the_global_prompt_is_the_only_expert(gate):
    nobody = {"prompt": GLOBAL, "experts": torch.zeros(0, 3, 4)}
    fixed = PFedMoAP(gate=gate, d_gating=4, heads=1, expert_choice="global").fixed(GATED, [nobody] * 2, CONTEXT)
    assert fixed["present"].tolist() == [[True]] * 2 and torch.equal(fixed["experts"], GLOBAL.expand(2, 1, 3, 4))


def test_without_any_expert_nothing_is_encoded():
    nobody = {"prompt": GLOBAL, "experts": torch.zeros(0, 3, 4)}
    context = Context(lambda prompts: pytest.fail("encoded"), torch.zeros(3, 4), 2.0, GLOBAL, 7)
    fixed = PFedMoAP(d_gating=2, heads=1).fixed(GATED, [nobody] * 2, context)
    assert fixed["experts"].shape == (2, 0, 3, 2) and fixed["present"].shape == (2, 0)
    assert PFedMoAP().fixed({"prompt": GLOBAL[None]}, [nobody], context) == {}  # no gate yet


@pytest.mark.parametrize(("method", "gate"), [
    (PFedMoAP(d_gating=2, heads=1), initial_gate(2, 7, 3)),
    (PFedMoAP(gate="linear", experts=(1, 2)), initial_linear_gate(4, 3, 7, 3)),
    (PFedMoAP(gate="linear", experts=5, expert_choice="global"), initial_linear_gate(4, 2, 7, 3)),
], ids=["attention", "linear", "global"])
def test_a_gate_starts_from_seed_and_client_once_there_are_experts(method, gate):
    assert_equal(method.start(lent(1), {}, 3, CONTEXT), {"prompt": GLOBAL} | gate)
    assert method.start({"prompt": GLOBAL}, {}, 3, CONTEXT).keys() == {"prompt"}
    own = {"prompt": PROMPTS[3]} | {name: tensor + 1 for name, tensor in gate.items()}
    assert_equal(method.start(lent(1), own, 3, CONTEXT), own | {"prompt": GLOBAL})
    assert_equal(method.tested(lent(1), own, 3, CONTEXT), own)
    assert_equal(method.tested(lent(1), {}, 3, CONTEXT), {"prompt": GLOBAL})
