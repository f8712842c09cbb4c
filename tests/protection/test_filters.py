"""What a filter lets in of a round's uploads, worked out by hand."""

import pytest
import torch
from test_federation import federation

from pfedmoap.errors import UserError
from pfedmoap.methods import FedPer, PFedMoAP, PromptFL
from pfedmoap.protection import MedianFilter, TrimmedFilter, build_filter, everything, take_in


def prompts(*values: list[float]) -> dict[int, dict[str, torch.Tensor]]:
    """Clients 0, 1, ... with prompts (1, numbers)."""
    return {client: {"prompt": torch.tensor([value])} for client, value in enumerate(values)}


def test_without_a_filter_everything_is_let_in():
    uploads = prompts([1.0], [9.0])
    admitted = everything(uploads, {})
    assert admitted.pool is uploads and admitted.averaged is uploads and admitted.refused == {}


def test_an_upload_far_from_the_median_reaches_neither_pool_nor_average():
    """The median is (1, 1), the distances are 1, 1 and 5, the usual one is 1."""
    admitted = MedianFilter(2.0)(prompts([0.0, 1.0], [1.0, 2.0], [4.0, -3.0]), {})
    assert set(admitted.pool) == set(admitted.averaged) == {0, 1} and set(admitted.refused) == {2}
    assert "5, is beyond 2 times the usual one, 1" in admitted.refused[2]
    assert MedianFilter(5.0)(prompts([0.0, 1.0], [1.0, 2.0], [4.0, -3.0]), {}).refused == {}


def test_the_pools_other_entries_say_what_is_usual_and_those_of_uploading_clients_do_not():
    """Of 0 and 10 alone both are as far from their median, 5; with entries at 0, 1 and 2 only 10 is far from 1."""
    uploads = prompts([0.0], [10.0])
    entries = {client: torch.tensor([[float(client - 2)]]) for client in (2, 3, 4)}
    assert MedianFilter(2.0)(uploads, {}).refused == {}
    assert set(MedianFilter(2.0)(uploads, entries).refused) == {1}
    replaced = {0: torch.tensor([[10.0]]), 1: torch.tensor([[10.0]])}
    assert MedianFilter(2.0)(uploads, replaced).refused == {}


def test_what_is_no_whole_prompt_is_compared_with_the_rounds_uploads_alone():
    uploads = {client: {"shared": torch.tensor([[value]])} for client, value in enumerate([0.0, 1.0, 2.0, 50.0])}
    assert set(MedianFilter(3.0)(uploads, {7: torch.zeros(1, 1)}).refused) == {3}


def test_equal_uploads_are_all_let_in():
    assert MedianFilter(1.0)(prompts([1.0], [1.0], [1.0]), {}).refused == {}


def test_the_trimmed_mean_leaves_out_the_extremes_of_every_number():
    uploads = prompts([0.0, 5.0], [1.0, 4.0], [2.0, 90.0], [60.0, 3.0])
    admitted = TrimmedFilter(0.25)(uploads, {})
    assert admitted.pool is uploads and admitted.refused == {}
    assert all(each["prompt"].tolist() == [[1.5, 4.5]] for each in admitted.averaged.values())


@pytest.mark.parametrize("limit, mean", [(0.1, 2.0), (0.3, 2.0), (0.49, 2.0)])
def test_of_three_uploads_any_trimming_leaves_the_middle_one(limit, mean):
    admitted = TrimmedFilter(limit)(prompts([0.0], [2.0], [70.0]), {})
    assert admitted.averaged[0]["prompt"].item() == mean


def test_of_one_or_two_uploads_nothing_can_be_cut():
    assert TrimmedFilter(0.4)(prompts([3.0]), {}).averaged[0]["prompt"].item() == 3.0
    assert TrimmedFilter(0.4)(prompts([3.0], [5.0]), {}).averaged[1]["prompt"].item() == 4.0


@pytest.mark.parametrize("method", [PromptFL(), PFedMoAP(experts=2, d_gating=16, heads=4), FedPer()],
                         ids=lambda method: method.name)
def test_a_federation_that_takes_in_everything_is_the_plain_one(context, method):
    plain, other = federation(context, method, 2), federation(context, method, 2)
    plain.run_round()
    downloads = other.downloads(other.sample(1))
    uploads = {update.client: update.upload for update in other.train(downloads, 1)}
    assert take_in(other, uploads, everything) == {}
    assert other.server.round == plain.server.round == 2
    for name, tensor in plain.server.shared.items():
        assert torch.equal(other.server.shared[name], tensor)
    assert other.server.pool.entries.keys() == plain.server.pool.entries.keys()


def test_what_a_filter_refuses_stays_out_and_the_trimmed_mean_takes_the_averages_place(context):
    run = federation(context, PFedMoAP(experts=2, d_gating=16, heads=4), 2)
    shape = run.server.shared["prompt"].shape
    uploads = {client: {"prompt": torch.full(shape, value)} for client, value in enumerate([1.0, 2.0, 3.0, 90.0])}
    assert set(take_in(run, uploads, MedianFilter(2.0))) == {3}
    assert sorted(run.server.pool.entries) == [0, 1, 2] and run.server.shared["prompt"].max() <= 3
    assert take_in(run, uploads, TrimmedFilter(0.25)) == {}
    assert sorted(run.server.pool.entries) == [0, 1, 2, 3]
    assert torch.equal(run.server.shared["prompt"], torch.full(shape, 2.5))
    before = run.server.shared["prompt"]
    assert take_in(run, {}, MedianFilter()) == {} and run.server.shared["prompt"] is before and run.server.round == 3


def test_filters_by_name():
    assert build_filter() is everything and build_filter("none", 5.0) is everything
    assert build_filter("median") == MedianFilter() and build_filter("trimmed", 0.2) == TrimmedFilter(0.2)


@pytest.mark.parametrize("name, limit, reason", [
    ("medain", None, "did you mean 'median'"), ("median", 0.5, "limit must be a number >= 1"),
    ("trimmed", 0.5, "limit must be a number > 0 and < 0.5"), ("trimmed", 0.0, "limit must be")])
def test_unknown_filters_and_limits_are_refused(name, limit, reason):
    with pytest.raises(UserError, match=reason):
        build_filter(name, limit)
