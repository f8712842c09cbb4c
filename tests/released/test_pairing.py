"""Labels on the wrong images and names in the wrong order, as in the released code; classes dealt as there."""

import numpy as np
import pytest
from test_partition import assert_same, labelled, regular

from pfedmoap.data import Partition, partition
from pfedmoap.data.partitions import deal_classes
from pfedmoap.errors import UserError
from pfedmoap.released import mispaired, with_shuffled_names

DOMAINS, PER_DOMAIN, CLASSES = 3, 5, 10


@pytest.fixture(scope="module")
def imageset():
    return regular(CLASSES, train=40, test=20, domains=DOMAINS)


@pytest.fixture(scope="module")
def shares(imageset):
    return partition(imageset, "domain_dirichlet", clients=DOMAINS * PER_DOMAIN, seed=1, alpha=0.3)


@pytest.mark.parametrize("split", ["train", "test"])
def test_about_one_label_in_ten_is_right(imageset, shares, split):
    own = getattr(imageset, split).labels
    hits = []
    for seed in range(20):
        made = mispaired(imageset, shares, seed)
        hits += [own[image] == label for client in range(15) for image, label in made.pairs(client, split)]
    assert np.mean(hits) == pytest.approx(0.1, abs=0.03)
    assert all(own[image] == label for client in range(15) for image, label in shares.pairs(client, split))


@pytest.mark.parametrize("split", ["train", "test"])
def test_clients_of_a_domain_use_its_leading_images_and_keep_their_labels(imageset, shares, split):
    made, part = mispaired(imageset, shares, seed=1), getattr(imageset, split)
    for client in range(15):
        images, labels = map(np.array, zip(*made.pairs(client, split), strict=True))
        listed = np.flatnonzero(part.domains == client // PER_DOMAIN)  # the domain's whole list
        assert np.array_equal(images, listed[: len(images)])
        assert sorted(labels) == sorted(part.labels[getattr(shares, split)[client]])
    sizes = [len(getattr(made, split)[client]) for client in range(PER_DOMAIN)]
    assert set(getattr(made, split)[int(np.argmin(sizes))]) <= set(getattr(made, split)[int(np.argmax(sizes))])


def test_the_kth_image_gets_the_label_of_the_shares_kth_entry():
    """Two clients of one domain, each with one class in its share, so that the order of a share does not matter."""
    domains = np.zeros(6, dtype=np.int64), np.zeros(2, dtype=np.int64)
    imageset = labelled([0, 0, 1, 1, 1, 1], [0, 1], 2, *domains, domains=1)
    train, test = (np.array([0, 1]), np.array([2, 3, 4, 5])), (np.array([0]), np.array([1]))
    shares = Partition(train, test, train_labels=(), test_labels=())
    made = mispaired(imageset, shares, seed=1)
    assert made.pairs(0) == [(0, 0), (1, 0)]
    assert made.pairs(1) == [(0, 1), (1, 1), (2, 1), (3, 1)]  # images 0 and 1 are of class 0
    assert made.pairs(0, "test") == [(0, 0)] and made.pairs(1, "test") == [(0, 1)]


def test_mispairing_depends_on_the_seed_alone(imageset, shares):
    one, again, other = (mispaired(imageset, shares, seed) for seed in (1, 1, 2))
    assert_same(one, again)
    assert all(np.array_equal(a, b) for a, b in zip(one.train_labels, again.train_labels, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one.train_labels, other.train_labels, strict=True))


def test_names_are_shuffled_for_sets_with_domains_only(imageset):
    in_place = []
    for seed in range(200):
        names = with_shuffled_names(imageset, seed).class_names
        assert sorted(names) == sorted(imageset.class_names)
        in_place.append(sum(a == b for a, b in zip(names, imageset.class_names, strict=True)))
    assert np.mean(in_place) == pytest.approx(1.0, abs=0.25)
    assert with_shuffled_names(imageset, 3).class_names == with_shuffled_names(imageset, 3).class_names
    without = regular(CLASSES, train=4, test=2)
    assert with_shuffled_names(without, 1) is without


@pytest.mark.parametrize(("classes", "clients", "counts"), [
    (47, 10, [5] * 9 + [2]), (37, 10, [4] * 9 + [1]), (102, 10, [10] * 9 + [12]), (100, 10, [10] * 10),
    (101, 10, [10] * 9 + [11]), (3, 1, [3]),
])  # fmt: skip
def test_classes_dealt_as_in_the_released_code(classes, clients, counts):
    hands = deal_classes(classes, clients, seed=1, deal="rounded")
    assert [len(hand) for hand in hands] == counts
    assert sorted(np.concatenate(hands)) == list(range(classes))
    made = partition(regular(classes, train=2, test=1), clients=clients, seed=1, class_deal="rounded")
    assert [len(own) for own in made.test] == counts


def test_a_deal_that_leaves_nothing_for_the_last_client_is_refused():
    with pytest.raises(UserError, match="8 classes dealt to 5 clients by 2 leave none for the last: use another"):
        deal_classes(8, 5, seed=1, deal="rounded")
    with pytest.raises(UserError, match="no class deal is called 'odd': use one of even, rounded"):
        deal_classes(8, 4, seed=1, deal="odd")
