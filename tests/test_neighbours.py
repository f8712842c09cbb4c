"""Neighbours of many clients at once are those of the plain way, to the last tie; so is everything that rests on them.
"""

import pytest
import torch
from test_federation import MOAP, assert_equal, federation, state
from tiny import make_data

from pfedmoap import server
from pfedmoap.evaluation import Downloads, evaluate, evaluate_clients
from pfedmoap.methods import FedAMP, PFedMoAP
from pfedmoap.prompts import TextFeatures
from pfedmoap.server import Pool, Server


def spread(count, width, kind):
    draw = torch.Generator().manual_seed(count + width)
    noise = torch.randn(count, width, generator=draw)
    match kind:
        case "independent":
            return 0.02 * noise
        case "alike":  # distances far below the prompts' own length
            return torch.randn(width, generator=draw) + 1e-5 * noise
        case "clusters":
            return torch.randn(7, width, generator=draw)[torch.arange(count) % 7] + 1e-3 * noise
        case "ties":  # many equal distances, and equal prompts
            return torch.randint(0, 2, (count, width), generator=draw).float()
        case "equal":
            return torch.ones(count, width)
        case "not finite":
            return noise * torch.tensor([1e30, 1e25, 1.0]).repeat(count)[:count, None]


KINDS = "independent", "alike", "clusters", "ties", "equal", "not finite"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "width"), [(2, 3), (300, 4), (300, 64), (129, 2048), (700, 512)])
def test_many_at_once_as_one_by_one(kind, count, width, monkeypatch):
    monkeypatch.setattr(server, "BLOCK", 2**14)  # several blocks, the last one short
    prompts = spread(count, width, kind)
    for wanted in (0, 1, 9, count):
        rows = list(range(0, count, 1 + count // 40))
        together = server.nearest_of_many(prompts, rows, wanted)
        assert together == [server.nearest_to(prompts, row, wanted) for row in rows]


@pytest.mark.parametrize("width", [512, 8192])
def test_few_candidates_are_left_for_the_plain_way(width):
    prompts = spread(1000, width, "independent")
    possible = server._possible(prompts, torch.arange(50), 9)
    assert possible.sum(1).min() >= 9 and possible.sum(1).float().mean() < 60


def test_distances_in_blocks_are_those_of_the_whole():
    prompts = spread(1025, 1024, "independent")  # the last block is a single row
    assert torch.equal(server.l2_distances(prompts, prompts[3]),
                       torch.linalg.vector_norm(prompts - prompts[3], dim=1))


def test_a_pool_finds_the_same_whoever_is_expected(monkeypatch):
    monkeypatch.setattr(server, "GROUP", 16)
    entries = {3 * client: prompt for client, prompt in enumerate(spread(50, 24, "ties").unflatten(1, (4, 6)))}
    plain, pool = Pool(entries), Pool(entries)
    for count in (4, 2, 0, 7, 99):  # fewer than are known, and more
        pool.expect(range(200))
        assert [pool.nearest(client, count) for client in entries] == [plain.nearest(client, count)
                                                                      for client in entries]
    new = {0: entries[3] + 0.1, 200: entries[6]}
    plain.replace(new)
    pool.replace(new)
    assert pool.nearest(0, 5) == plain.nearest(0, 5)
    with pytest.raises(KeyError):
        pool.nearest(1, 5)
    lone = Pool({4: entries[3]})
    lone.expect([4])
    assert lone.nearest(4, 3) == []


@pytest.mark.parametrize("method", [MOAP, PFedMoAP(d_gating=16, heads=4, experts=(2, 0, 3, 1)), FedAMP()], ids=str)
def test_downloads_made_when_needed_change_no_test(context, method):
    run = federation(context, method, rounds=3, participation=0.5)
    for _ in run.rounds():
        pass
    plain = Server(run.server.shared, Pool(run.server.pool.entries), 4, context.seed)
    eager = {client: method.download(plain, client) for client in range(4)}
    lazy = Downloads(method, run.server, 4)
    assert list(lazy) == list(eager) and len(lazy) == 4
    assert evaluate(method, run.server, run.personal, run.data, context) == evaluate_clients(
        method, eager, run.personal, run.data, context)
    for client in eager:
        assert_equal(eager[client], lazy[client])


def test_a_whole_run_is_the_same_with_neighbours_one_by_one(context, monkeypatch):
    def final():
        run = federation(context, MOAP, rounds=4, participation=0.6, data=make_data(train_sizes=[4] * 12))
        for _ in run.rounds():
            pass
        return state(run), [(entry.losses, entry.accuracies, entry.diagnostics) for entry in run.history]

    together = final()
    monkeypatch.setattr(Pool, "expect", lambda self, clients: None)
    one_by_one = final()
    assert_equal(together[0], one_by_one[0])
    assert together[1] == one_by_one[1]


def test_remembered_features_stay_within_their_bound(context):
    prompts = spread(40, 4 * 32, "independent").unflatten(1, (4, 32))
    one = context.text.encoder(prompts[:1])
    text = TextFeatures(context.text.encoder, memory_bytes=5 * one.nbytes)
    expected = TextFeatures(context.text.encoder)(prompts)
    for at in range(0, 40, 16):
        assert torch.equal(text(prompts[at : at + 16]), expected[at : at + 16])
    held = list(text._memory.values())
    assert len(held) == 5 and text._held == sum(row.nbytes for row in held)
    assert all(row.untyped_storage().nbytes() == row.nbytes for row in held)
