"""Flower's partitioners deal as they do in Flower's own hands, and test images follow the training images."""

import sys

import numpy as np
import pytest

from pfedmoap.data import ImageArray, ImageSet, Split, partition
from pfedmoap.data.partitioners import PARTITIONERS, deal
from pfedmoap.data.partitions import following
from pfedmoap.errors import UserError
from pfedmoap.experiments import Experiment

NO_FLOWER = "flwr-datasets is an optional extra: pip install 'pfedmoap[partitioners]'"
LABELS = np.repeat(np.arange(10), 40)
CLIENTS, SEED, ALPHA = 4, 3, 0.5
BY_LABEL = {"partition_by": "label", "seed": SEED}
SETTINGS = {
    "IidPartitioner": {"num_partitions": 4},
    "LinearPartitioner": {"num_partitions": 4},
    "SquarePartitioner": {"num_partitions": 4},
    "ExponentialPartitioner": {"num_partitions": 4},
    "DirichletPartitioner": BY_LABEL | {"num_partitions": 4, "alpha": 0.5, "min_partition_size": 1},
    "InnerDirichletPartitioner": BY_LABEL | {"partition_sizes": [100] * 4, "alpha": 0.5},
    "PathologicalPartitioner": BY_LABEL | {"num_partitions": 4, "num_classes_per_partition": 3},
    "ShardPartitioner": BY_LABEL | {"num_partitions": 4, "num_shards_per_partition": 2},
}


@pytest.fixture(scope="module")
def flower():
    return pytest.importorskip("flwr_datasets", reason=NO_FLOWER).partitioner


@pytest.fixture
def imageset() -> ImageSet:
    images = ImageArray(np.zeros((400, 2, 2, 3), dtype=np.uint8))
    names = tuple(f"class {number}" for number in range(10))
    return ImageSet("toy", names, Split(images, LABELS), Split(images, LABELS), "0" * 64, "made here")


def test_every_one_that_is_offered_is_tested():
    assert SETTINGS.keys() == PARTITIONERS.keys()


@pytest.mark.parametrize("name", PARTITIONERS)
def test_the_images_are_those_that_flower_deals(flower, name):
    import datasets

    partitioner = getattr(flower, name)(**SETTINGS[name])
    rows = datasets.Dataset.from_dict({"number": range(400), "label": LABELS})
    partitioner.dataset = rows.shuffle(seed=SEED)  # as FederatedDataset does
    ours = deal(f"flwr:{name}", LABELS, CLIENTS, SEED, ALPHA)
    for client, own in enumerate(ours):
        assert own.tolist() == list(partitioner.load_partition(client)["number"])
    dealt = np.concatenate(ours)
    assert len(np.unique(dealt)) == len(dealt) > 200
    others = deal(f"flwr:{name}", LABELS, CLIENTS, SEED + 1, ALPHA)
    assert [own.tolist() for own in others] != [own.tolist() for own in ours]


def test_a_partition_has_shots_and_test_images_that_follow_them(flower, imageset):
    shares = partition(imageset, "flwr:DirichletPartitioner", clients=CLIENTS, seed=SEED, shots=20, alpha=ALPHA)
    assert len(np.concatenate(shares.train)) == 200 and len(np.concatenate(shares.test)) == 400
    assert shares.notes == ()
    for train, test in zip(shares.train_labels, shares.test_labels, strict=True):
        twice = 2 * np.bincount(train, minlength=10)  # 20 training and 40 test images of every class
        assert np.abs(np.bincount(test, minlength=10) - twice).max() <= 1
    again = partition(imageset, "flwr:DirichletPartitioner", clients=CLIENTS, seed=SEED, shots=20, alpha=ALPHA)
    assert all(np.array_equal(a, b) for a, b in zip(shares.test, again.test, strict=True))


def test_images_that_a_partitioner_leaves_out_are_told(flower, imageset):
    shares = partition(imageset, "flwr:PathologicalPartitioner", clients=2, seed=SEED)
    used = np.unique(np.concatenate(shares.train_labels))
    assert len(used) < 10 and shares.notes == (
        f"flwr:PathologicalPartitioner leaves {40 * (10 - len(used))} training images out",)
    assert set(np.concatenate(shares.test_labels)) == set(used)


def test_following_leaves_out_classes_that_nobody_trains_on():
    train = [np.array([0, 1, 2]), np.array([3, 4])]
    ours = following(train, np.array([0, 0, 2, 0, 0]), np.array([0, 1, 2, 0, 0, 0, 1, 2]), seed=1)
    assert [len(own) for own in ours] == [4, 2] and sorted(np.concatenate(ours)) == [0, 2, 3, 4, 5, 7]


def test_what_flower_refuses_is_one_sentence(flower):
    with pytest.raises(UserError, match="cannot deal 5 images of 5 classes to 9 clients .*: use other --clients"):
        deal("flwr:DirichletPartitioner", np.arange(5), 9, SEED, ALPHA)


def test_other_names_are_refused_with_those_that_can_be_had(monkeypatch):
    with pytest.raises(UserError, match="NaturalIdPartitioner is none of .*: use one of flwr:IidPartitioner, flwr:Lin"):
        Experiment(partition="flwr:NaturalIdPartitioner")
    with pytest.raises(UserError, match="or one of Flower's, such as flwr:DirichletPartitioner"):
        Experiment(partition="dirichlett")
    assert ":" not in Experiment(partition="flwr:IidPartitioner").label
    monkeypatch.setitem(sys.modules, "flwr_datasets", None)
    with pytest.raises(UserError, match=r"pip install 'pfedmoap\[partitioners\]'"):
        deal("flwr:IidPartitioner", LABELS, CLIENTS, SEED, ALPHA)
