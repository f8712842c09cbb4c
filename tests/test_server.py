"""The pool's neighbours and the weighted average, by hand."""

import torch

from pfedmoap.server import Pool, weighted_average


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
