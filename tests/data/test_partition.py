"""Partitions: nothing used twice, nothing lost, nobody empty, and the same again from the same seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfedmoap.data import ImageSet, Split, partition, suggested
from pfedmoap.data.partitions import few_shot
from pfedmoap.errors import UserError


def labelled(train, test, classes, train_domains=None, test_domains=None, domains=0):
    """A data set of labels alone: partitions look at nothing else."""
    splits = [
        Split([None] * len(labels), np.array(labels, dtype=np.int64), of_domain)
        for labels, of_domain in ((train, train_domains), (test, test_domains))
    ]
    names = [tuple(f"{kind} {i}" for i in range(count)) for kind, count in (("class", classes), ("domain", domains))]
    return ImageSet("toy", names[0], *splits, fingerprint="0", source="", domain_names=names[1])


def regular(classes, train, test, domains=1):
    """`train` and `test` images of every class in every domain, in shuffled order."""
    rng = np.random.default_rng(classes)
    parts = []
    for each in (train, test):
        cells = np.repeat(np.indices((domains, classes)).reshape(2, -1), each, axis=1)
        parts.append(rng.permutation(cells, axis=1))
    (train_domains, train_labels), (test_domains, test_labels) = parts
    with_domains = (train_domains, test_domains, domains) if domains > 1 else ()
    return labelled(train_labels, test_labels, classes, *with_domains)


def counts(labels, indices, classes):
    return np.bincount(labels[indices], minlength=classes)


def assert_sound(imageset, made, clients, keeps_train=True):
    """Every index at most once (and every one where the protocol keeps all), sorted int64, no empty client."""
    for part, split, keeps_all in ((made.train, imageset.train, keeps_train), (made.test, imageset.test, True)):
        assert len(part) == clients
        assert all(len(indices) and indices.dtype == np.int64 for indices in part)
        assert all((np.diff(indices) > 0).all() for indices in part)
        used = np.concatenate(part)
        assert len(set(used)) == len(used)
        assert not keeps_all or len(used) == len(split)


def assert_same(one, other):
    for mine, theirs in zip(one.train + one.test, other.train + other.test, strict=True):
        assert np.array_equal(mine, theirs)


seeds = st.integers(0, 2**31)


@given(st.integers(1, 12), st.integers(1, 12), st.one_of(st.none(), st.integers(1, 6)), seeds)
def test_label_disjoint(clients, more, shots, seed):
    classes = clients + more - 1
    imageset = regular(classes, train=4, test=3)
    made = partition(imageset, "label_disjoint", clients=clients, seed=seed, shots=shots)
    assert_sound(imageset, made, clients, keeps_train=shots is None)
    sizes = [len(np.unique(imageset.test.labels[indices])) for indices in made.test]
    assert max(sizes) - min(sizes) <= 1
    assert sum(sizes) == classes
    for train, test in zip(made.train, made.test, strict=True):
        own = counts(imageset.train.labels, train, classes)
        assert set(own) <= {0, min(shots or 4, 4)}
        assert np.array_equal(own > 0, counts(imageset.test.labels, test, classes) > 0)
    assert_same(made, partition(imageset, "label_disjoint", clients=clients, seed=seed, shots=shots))


@given(st.integers(2, 8), st.integers(3, 10), st.floats(0.5, 50), seeds)
def test_dirichlet_keeps_all_images_in_the_same_proportions(clients, classes, alpha, seed):
    imageset = regular(classes, train=40, test=20)
    made = partition(imageset, "dirichlet", clients=clients, seed=seed, alpha=alpha)
    assert_sound(imageset, made, clients)
    for train, test in zip(made.train, made.test, strict=True):
        share_of_train = counts(imageset.train.labels, train, classes) / 40
        share_of_test = counts(imageset.test.labels, test, classes) / 20
        # each count is within one image of its share
        assert (np.abs(share_of_train - share_of_test) <= 1 / 40 + 1 / 20 + 1e-9).all()
    assert_same(made, partition(imageset, "dirichlet", clients=clients, seed=seed, alpha=alpha))


@given(st.integers(2, 4), st.integers(1, 4), seeds)
def test_domain_dirichlet_keeps_domains_apart(domains, per_domain, seed):
    imageset = regular(classes=5, train=12, test=8, domains=domains)
    clients = domains * per_domain
    made = partition(imageset, "domain_dirichlet", clients=clients, seed=seed, alpha=0.5)
    assert_sound(imageset, made, clients)
    for client in range(clients):
        assert set(imageset.train.domains[made.train[client]]) == {client // per_domain}
        assert set(imageset.test.domains[made.test[client]]) == {client // per_domain}


@given(st.integers(1, 20), seeds)
def test_iid_deals_evenly(clients, seed):
    imageset = regular(classes=4, train=10, test=6)
    made = partition(imageset, "iid", clients=clients, seed=seed)
    assert_sound(imageset, made, clients)
    for part in (made.train, made.test):
        sizes = [len(indices) for indices in part]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("protocol", ["label_disjoint", "dirichlet", "domain_dirichlet", "iid"])
def test_seed_decides(protocol):
    imageset = regular(classes=10, train=20, test=10, domains=2)
    one, other = (partition(imageset, protocol, clients=4, seed=seed) for seed in (1, 2))
    assert not all(np.array_equal(a, b) for a, b in zip(one.train, other.train, strict=True))


def test_split_is_the_same_on_every_machine():
    made = partition(regular(classes=6, train=2, test=1), "label_disjoint", clients=3, seed=1, shots=1)
    assert [indices.tolist() for indices in made.train] == [[10, 11], [3, 4], [1, 7]]
    drawn = partition(regular(classes=2, train=6, test=3), "dirichlet", clients=2, seed=1)
    assert [indices.tolist() for indices in drawn.train] == [[2, 3, 4, 5, 7, 9, 10, 11], [0, 1, 6, 8]]


@pytest.mark.parametrize("protocol", ["label_disjoint", "dirichlet", "iid"])
def test_fewer_shots_are_a_subset_of_more_shots(protocol):
    imageset = regular(classes=4, train=30, test=10)
    few, many = (
        np.concatenate(partition(imageset, protocol, clients=2, seed=3, shots=shots, alpha=5).train)
        for shots in (4, 16)
    )
    assert set(few) < set(many)
    assert np.array_equal(counts(imageset.train.labels, few, 4), [4] * 4)


def test_small_alpha_concentrates_a_class_and_large_alpha_spreads_it():
    imageset = regular(classes=10, train=200, test=100)
    largest = {}
    for alpha in (0.1, 100):
        made = partition(imageset, "dirichlet", clients=5, seed=1, alpha=alpha)
        table = np.array([counts(imageset.train.labels, indices, 10) for indices in made.train])  # (clients, classes)
        largest[alpha] = (table.max(axis=0) / 200).mean()
    assert largest[0.1] > 0.6
    assert largest[100] < 0.3


def test_class_with_fewer_images_than_shots_is_used_whole_and_noted():
    imageset = labelled([0] * 20 + [1] * 3 + [2] * 20, [0, 1, 2], classes=3)
    made = partition(imageset, clients=3, seed=1, shots=16)
    assert sorted(len(indices) for indices in made.train) == [3, 16, 16]
    assert made.notes == ("classes with fewer than 16 training images, all of which are used: class 1 (3)",)
    assert partition(imageset, clients=3, seed=1, shots=3).notes == ()


def test_a_note_names_only_the_first_of_many_small_classes():
    _, (note,) = few_shot(np.arange(8), [f"class {k}" for k in range(8)], 2, seed=1)
    assert note.endswith("class 0 (1), class 1 (1), class 2 (1), class 3 (1), class 4 (1) and 3 more")


def test_fewer_classes_than_clients():
    with pytest.raises(UserError, match="5 classes cannot be dealt to 6 clients: use at most 5 clients"):
        partition(regular(5, 4, 2), clients=6, seed=1)


def test_dirichlet_gives_up_with_the_remedy_instead_of_trying_for_ever():
    with pytest.raises(UserError, match=r"none of 100 draws from Dir\(0.01\) .* use a larger alpha or fewer clients"):
        partition(regular(2, 10, 5), "dirichlet", clients=9, seed=1, alpha=0.01)


def test_dirichlet_rounding_favours_no_client():
    """Four images of each of 40 classes among ten clients alike: whoever gets none changes from class to class."""
    made = partition(regular(classes=40, train=4, test=4), "dirichlet", clients=10, seed=1, alpha=50.0)
    assert all(5 < len(share) < 28 for share in made.train)


def test_dirichlet_redraws_until_nobody_is_empty():
    for seed in range(20):  # a single draw often leaves someone without test images here
        imageset = regular(2, 10, 5)
        assert_sound(imageset, partition(imageset, "dirichlet", clients=4, seed=seed, alpha=0.5), 4)


def test_domains_have_to_divide_the_clients():
    with pytest.raises(UserError, match="5 clients cannot share 2 domains evenly: use a multiple of 2 clients"):
        partition(regular(4, 10, 5, domains=2), "domain_dirichlet", clients=5, seed=1)
    with pytest.raises(UserError, match="toy has no domains: use the protocol dirichlet"):
        partition(regular(4, 10, 5), "domain_dirichlet", clients=4, seed=1)


@given(st.integers(1, 5), seeds)
def test_by_domain_every_domain_is_a_client(domains, seed):
    imageset = regular(classes=3, train=6, test=2, domains=max(domains, 2))
    made = partition(imageset, "by_domain", clients=max(domains, 2), seed=seed)
    assert_sound(imageset, made, max(domains, 2))
    for client, (train, test) in enumerate(zip(made.train, made.test, strict=True)):
        assert set(imageset.train.domains[train]) == set(imageset.test.domains[test]) == {client}


def test_given_clients_keep_their_images():
    owners = np.array([0, 0, 1, 1, 2, 2]), np.array([2, 1, 0])
    splits = [Split([None] * len(own), np.arange(len(own)) % 2, clients=own) for own in owners]
    imageset = ImageSet("toy", ("a", "b"), *splits, fingerprint="0", source="", clients=("x", "y", "z"))
    made = partition(imageset, "given", clients=3, seed=1)
    assert suggested(imageset) == ("given", 3)
    assert [own.tolist() for own in made.train] == [[0, 1], [2, 3], [4, 5]]
    assert [own.tolist() for own in made.test] == [[2], [1], [0]]
    with pytest.raises(UserError, match="toy has 3 clients: use --clients 3 with given"):
        partition(imageset, "given", clients=10, seed=1)
    with pytest.raises(UserError, match="toy has no domains of its own: use another protocol than by_domain"):
        partition(imageset, "by_domain", clients=3, seed=1)
    with pytest.raises(UserError, match="'[xyz]' has no training images: give it some, use more shots, or leave it"):
        partition(imageset, "given", clients=3, seed=1, shots=1)


@pytest.mark.parametrize(("imageset", "expected"), [
    (regular(2, 6, 3), ("dirichlet", 2)),
    (regular(3, 6, 3), ("dirichlet", 2)),
    (regular(4, 6, 3), ("label_disjoint", 2)),
    (regular(7, 6, 3), ("label_disjoint", 3)),
    (regular(40, 6, 3), ("label_disjoint", 10)),
    (regular(4, 6, 3, domains=3), ("by_domain", 3)),
    # Two of seven classes have no test images: whatever is dealt, three classes have one that does.
    (labelled([0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4], 7), ("label_disjoint", 2)),
])
def test_suggested_protocol_fits(imageset, expected):
    protocol, clients = suggested(imageset)
    assert (protocol, clients) == expected
    for seed in range(20):
        assert_sound(imageset, partition(imageset, protocol, clients=clients, seed=seed), clients)


@pytest.mark.parametrize(("imageset", "given", "expected"), [
    (regular(7, 6, 3), ("iid", None), ("iid", 2)),
    (regular(7, 6, 30), ("dirichlet", None), ("dirichlet", 10)),
    (regular(3, 6, 3), ("label_disjoint", None), ("label_disjoint", 2)),
    (regular(7, 6, 3), (None, 5), ("dirichlet", 5)),
    (regular(7, 6, 3), (None, 1), ("label_disjoint", 1)),
    (regular(7, 6, 3), ("label_disjoint", 7), ("label_disjoint", 7)),
    (regular(4, 6, 6, domains=2), (None, 4), ("domain_dirichlet", 4)),
    (regular(4, 6, 6, domains=2), ("iid", 5), ("iid", 5)),
    (regular(4, 6, 6, domains=2), ("domain_dirichlet", None), ("domain_dirichlet", 2)),
])
def test_suggestions_fit_what_is_given(imageset, given, expected):
    assert suggested(imageset, *given) == expected
    assert_sound(imageset, partition(imageset, expected[0], clients=expected[1], seed=1), expected[1])


@pytest.mark.parametrize(("imageset", "message"), [
    (regular(1, 6, 3), "toy has fewer than 2 classes, too few for a federation: add some"),
    (labelled([0, 0, 1], [0], 2), "toy has fewer than 2 test images"),
])
def test_too_little_to_share(imageset, message):
    with pytest.raises(UserError, match=message):
        suggested(imageset)


def test_more_clients_than_images():
    with pytest.raises(UserError, match="client 4 would have no test images: use fewer clients than 6"):
        partition(regular(2, 10, 2), "iid", clients=6, seed=1)


@pytest.mark.parametrize("wrong", [{"clients": 0}, {"shots": 0}, {"alpha": 0.0}, {"alpha": float("nan")}])
def test_settings_out_of_range(wrong):
    with pytest.raises(UserError, match="must be at least 1"):
        partition(regular(4, 4, 4), **{"clients": 2, "seed": 1, **wrong})


def test_unknown_protocol():
    with pytest.raises(UserError, match="no partition protocol is called 'dirichet': use one of label_disjoint"):
        partition(regular(4, 4, 4), "dirichet", clients=2, seed=1)


@settings(max_examples=5)
@given(seeds)
def test_cifar_sized_sets_are_split_quickly(seed):
    imageset = regular(classes=10, train=5000, test=1000)
    made = partition(imageset, "dirichlet", clients=100, seed=seed, alpha=0.5)
    assert_sound(imageset, made, 100)
