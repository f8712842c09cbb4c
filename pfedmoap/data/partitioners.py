"""The partitioners of Flower's library `flwr-datasets` by their own names: `flwr:DirichletPartitioner` and others.

Whatever a partitioner needs is had from the number of clients, alpha and the seed. The library is an optional extra,
imported when needed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pfedmoap.errors import UserError

FLOWER = "flwr:"
LABEL = "label"
CLASSES_EACH = 2  # at least so many, of PathologicalPartitioner; and so many shards, of ShardPartitioner


class Task(NamedTuple):
    """What is to be dealt: n images of so many classes, to so many clients."""

    images: int
    classes: int
    clients: int
    alpha: float
    seed: int


def _drawn(task: Task) -> dict[str, Any]:
    return {"partition_by": LABEL, "seed": task.seed}


def _shared(task: Task) -> dict[str, Any]:
    return {"num_partitions": task.clients}


# What each is given; Flower's defaults else.
PARTITIONERS: dict[str, Callable[[Task], dict[str, Any]]] = {
    "IidPartitioner": _shared,
    "LinearPartitioner": _shared,
    "SquarePartitioner": _shared,
    "ExponentialPartitioner": _shared,
    "DirichletPartitioner": lambda task: (
        _shared(task) | _drawn(task) | {"alpha": task.alpha, "min_partition_size": 1}),
    "InnerDirichletPartitioner": lambda task: (
        _drawn(task) | {"alpha": task.alpha, "partition_sizes": [
            len(part) for part in np.array_split(np.arange(task.images), task.clients)]}),
    "PathologicalPartitioner": lambda task: (
        _shared(task) | _drawn(task) | {"num_classes_per_partition": min(
            task.classes, max(CLASSES_EACH, -(-task.classes // task.clients)))}),
    "ShardPartitioner": lambda task: (
        _shared(task) | _drawn(task) | {"num_shards_per_partition": CLASSES_EACH}),
}  # fmt: skip


def refuse_unknown_partitioner(name: str) -> None:
    """Raises a UserError unless the partitioner of that name (`flwr:...`) needs nothing but clients, alpha and seed."""
    if name.removeprefix(FLOWER) not in PARTITIONERS:
        raise UserError(f"{name} is none of Flower's partitioners that need no more than clients, alpha and seed: use "
                        f"one of {', '.join(FLOWER + each for each in PARTITIONERS)}")  # fmt: skip


def deal(name: str, labels: np.ndarray, clients: int, seed: int, alpha: float) -> list[np.ndarray]:
    """Deals images by one of Flower's partitioners, after shuffling them by the seed, as its FederatedDataset does.

    Args:
        name: `flwr:` and one of `PARTITIONERS`.
        labels: (n,) of the images to deal.
        clients: number of clients.
        seed: of the shuffle and of the partitioner.
        alpha: of the Dirichlet partitioners.

    Returns:
        Each client's images, as indices into `labels`; some partitioners leave images out.

    Raises:
        UserError: the extra is not installed, or the partitioner cannot deal these images.
    """
    refuse_unknown_partitioner(name)
    try:
        import datasets
        from flwr_datasets import partitioner as flower
    except ImportError as error:
        raise UserError(f"{name} needs Flower's flwr-datasets, an optional extra: install it with "
                        f"pip install 'pfedmoap[partitioners]'") from error  # fmt: skip
    kind = name.removeprefix(FLOWER)
    task = Task(len(labels), len(np.unique(labels)), clients, alpha, seed)
    rows = datasets.Dataset.from_dict({"row": np.arange(len(labels)), LABEL: labels}).shuffle(seed=seed)
    try:
        partitioner = getattr(flower, kind)(**PARTITIONERS[kind](task))
        partitioner.dataset = rows
        return [np.array(partitioner.load_partition(client)["row"], dtype=np.int64) for client in range(clients)]
    except (ValueError, IndexError) as error:
        raise UserError(f"{name} cannot deal {len(labels)} images of {task.classes} classes to {clients} clients "
                        f"({error}): use other --clients or --alpha, or another partition") from error  # fmt: skip
