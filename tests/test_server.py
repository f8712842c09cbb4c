"""The pool's neighbours and the weighted average, by hand."""

import pytest
import torch

from pfedmoap import server
from pfedmoap.server import Pool, Server, size_of, weighted_average


def prompts(**entries):
    return {int(client[1:]): torch.tensor([[value, 0.0]]) for client, value in entries.items()}


def test_nearest_by_l2_without_oneself():
    pool = Pool(prompts(c0=0.0, c1=5.0, c2=1.0, c3=-2.0))
    assert pool.nearest(0, 3) == [2, 3, 1]
    assert pool.nearest(1, 2) == [2, 0]
    assert pool.nearest(0, 0) == []
    assert pool.nearest(0, 9) == [2, 3, 1]


def test_ties_go_to_the_smaller_client_whatever_the_order_of_arrival():
    entries = prompts(c7=1.0, c4=-1.0, c9=1.0, c1=0.0)
    assert Pool(entries).nearest(1, 3) == [4, 7, 9]
    assert Pool(dict(reversed(entries.items()))).nearest(1, 3) == [4, 7, 9]


def test_more_neighbours_than_were_found_before():
    pool = Pool(prompts(c0=0.0, c1=5.0, c2=1.0, c3=-2.0))
    pool.expect([0, 1])
    assert [pool.nearest(0, count) for count in (2, 3, 1, 9)] == [[2, 3], [2, 3, 1], [2], [2, 3, 1]]


def test_neighbours_of_those_that_are_expected_are_found_once_and_some_at_a_time(monkeypatch):
    searches, search = [], server.nearest_of_many

    def listening(prompts, rows, count):
        searches.append((rows, count))
        return search(prompts, rows, count)

    monkeypatch.setattr(server, "GROUP", 2)
    monkeypatch.setattr(server, "nearest_of_many", listening)
    pool = Pool(prompts(c0=0.0, c2=1.0, c5=-3.0, c6=-4.0))
    pool.expect([5, 9, 0, 2])  # 9 has no entry
    for client, neighbours in ((5, [6, 0]), (0, [2, 5]), (2, [0, 5]), (5, [6, 0]), (6, [5, 0])):
        assert pool.nearest(client, 2) == neighbours
    assert searches == [([2, 0], 2), ([1], 2)]  # of 5 and 0, then of 2; 6 alone was not expected
    assert pool.nearest(0, 9) == pool.nearest(0, 9) == [2, 5, 6] and searches[2:] == [([0, 1], 9)]


def test_identical_prompts_are_neighbours_at_distance_zero():
    assert Pool(prompts(c0=1.0, c1=1.0, c2=1.0)).nearest(1, 2) == [0, 2]


def test_uploads_overwrite_entries():
    pool = Pool(prompts(c0=0.0, c1=1.0, c2=9.0))
    assert pool.nearest(0, 1) == [1]
    pool.replace(prompts(c1=8.0, c5=0.5))
    assert list(pool.entries) == [0, 1, 2, 5]
    assert pool.nearest(0, 4) == [5, 1, 2]
    assert 5 in pool and 3 not in pool and len(pool) == 4


def test_average_is_weighted_by_images_and_independent_of_order():
    uploads = prompts(c3=1.0, c8=4.0)
    average = weighted_average(uploads, {3: 30, 8: 10})
    assert average.tolist() == [[1.75, 0.0]]  # (30 * 1 + 10 * 4) / 40
    assert torch.equal(average, weighted_average(dict(reversed(uploads.items())), {8: 10, 3: 30}))
    assert weighted_average({3: torch.ones(2, dtype=torch.half)}, {3: 5}).dtype == torch.half


def test_average_is_summed_in_double_precision():
    """In single precision 1e8 + 1 is 1e8."""
    uploads = {0: torch.tensor([1e8]), 1: torch.tensor([1.0]), 2: torch.tensor([-1e8])}
    assert weighted_average(uploads, dict.fromkeys(uploads, 1)).item() == pytest.approx(1 / 3, rel=1e-6)


@pytest.mark.parametrize(("values", "median"), [([], 0.0), ([5.0], 0.0), ([1.0, 3.0], 4.0), ([0.0, 1.0, 3.0], 4.0)])
def test_the_median_is_over_all_pairs_and_nothing_without_any(values, median):
    pool = Pool({client: torch.tensor([[value, 1.0]]) for client, value in enumerate(values)})
    assert pool.median_squared_distance() == pool.median_squared_distance() == median


def test_the_median_is_of_the_entries_that_are_there_now():
    pool = Pool(prompts(c0=0.0, c1=1.0))
    assert pool.median_squared_distance() == 1.0
    pool.replace(prompts(c1=5.0))
    assert pool.median_squared_distance() == 25.0


def test_distances_are_to_all_entries_by_client():
    clients, distances = Pool(prompts(c7=1.0, c2=4.0, c5=1.0)).distances(7)
    assert clients.tolist() == [2, 5, 7] and distances.tolist() == [3.0, 0.0, 0.0]
    half = Pool({0: torch.zeros(1, 2, dtype=torch.half), 1: torch.full((1, 2), 200.0, dtype=torch.half)})
    assert half.distances(1)[1].tolist() == [pytest.approx(80000**0.5), 0.0]  # its square is no number in fp16


def test_a_server_starts_in_round_1_with_tensors_of_its_own():
    shared = {"prompt": torch.zeros(2, 3)}
    made = Server(shared)
    assert (made.clients, made.seed, made.round, len(made.pool)) == (0, 0, 1, 0)
    made.shared["prompt"] = None
    assert shared["prompt"] is not None and size_of(shared) == 24


def test_the_pool_that_is_given_is_the_servers_even_if_it_is_empty():
    pool = Pool()
    assert Server({}, pool, 3, 5).pool is pool
