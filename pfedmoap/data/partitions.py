"""How the clients share a data set: who holds which training and test images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pfedmoap.data.imageset import ImageSet
from pfedmoap.data.partitioners import FLOWER, deal, refuse_unknown_partitioner
from pfedmoap.errors import UserError
from pfedmoap.randomness import generator

PARTITIONS = ("label_disjoint", "dirichlet", "domain_dirichlet", "iid", "by_domain", "given")
CLASS_DEALS = ("even", "rounded")
REDRAWS = 100
MOST_NAMED = 5  # classes in a note
TESTED_EACH = 10  # test images per client, where images and not classes are shared


@dataclass(frozen=True)
class Partition:
    """The private data of every client.

    Attributes:
        train, test: one int64 array per client, in client order: sorted indices into the set's train and test split.
        train_labels, test_labels: the labels that these images go by, (n_i,) per client: their own, unless they have
            been mixed up on purpose (`data.pairing.mispaired`).
        notes: sentences about what could not be done as asked, for people.
    """

    train: tuple[np.ndarray, ...]
    test: tuple[np.ndarray, ...]
    train_labels: tuple[np.ndarray, ...]
    test_labels: tuple[np.ndarray, ...]
    notes: tuple[str, ...] = ()

    def pairs(self, client: int, split: str = "train") -> list[tuple[int, int]]:
        """A client's images, as indices into the split, each with the label that it goes by."""
        images, labels = getattr(self, split)[client], getattr(self, f"{split}_labels")[client]
        return list(zip(images.tolist(), labels.tolist(), strict=True))


def partition(
    imageset: ImageSet,
    protocol: str = "label_disjoint",
    *,
    clients: int,
    seed: int,
    shots: int | None = None,
    alpha: float = 0.5,
    class_deal: str = "even",
) -> Partition:
    """Deals a set's images to clients; depends on the labels, the domains and the arguments only.

    Args:
        imageset: what to share.
        protocol: `label_disjoint`: the classes are shuffled and dealt evenly, a client has all images of its classes.
            `dirichlet`: each class is spread over the clients in proportions drawn from Dir(alpha), the same for
            training and test images. `domain_dirichlet`: each domain belongs to clients/domains clients, domain by
            domain, which share it as in `dirichlet`. `iid`: shuffled and dealt evenly. `by_domain`: each domain is a
            client. `given`: the images belong to clients already, as in `clients/<client>/...` (see `data.folders`).
            `flwr:DirichletPartitioner` and others of Flower's deal the training images (`data.partitioners`), and each
            class's test images follow them (`following`).
        clients: number of clients.
        seed: of the run.
        shots: training images per class of the whole set (a smaller number takes a subset of a larger one's);
            None: all. No test images are left out here.
        alpha: concentration of the Dirichlet distribution; small means that few clients share a class.
        class_deal: of `label_disjoint`: "even", or "rounded" as in the released code.

    Raises:
        UserError: the protocol is unknown, or the clients cannot all get training and test images.
    """
    refuse_unknown_partition(protocol)
    if clients < 1 or (shots is not None and shots < 1) or not 0 < alpha < float("inf"):
        raise UserError(f"clients ({clients}) and shots ({shots}) must be at least 1, and alpha ({alpha}) above 0")
    labels = imageset.train.labels
    kept, notes = (np.arange(len(labels)), ()) if shots is None else few_shot(labels, imageset.class_names, shots, seed)
    if protocol == "label_disjoint":
        hands = deal_classes(len(imageset.class_names), clients, seed, class_deal)
        train, test = label_disjoint(labels, imageset.test.labels, kept, hands)
    elif protocol == "iid":
        train, test = iid(kept, len(imageset.test), clients, seed)
    elif protocol == "dirichlet":
        everything = np.arange(len(imageset.test))
        train, test = dirichlet(labels, imageset.test.labels, kept, everything, clients, seed, alpha)
    elif protocol == "domain_dirichlet":
        train, test = domain_dirichlet(imageset, kept, clients, seed, alpha)
    elif protocol.startswith(FLOWER):
        train = [kept[rows] for rows in deal(protocol, labels[kept], clients, seed, alpha)]
        test = following(train, labels, imageset.test.labels, seed)
        left_out = len(kept) - sum(map(len, train))
        notes += (f"{protocol} leaves {left_out} training images out",) * bool(left_out)
    else:
        train, test = owned(imageset, protocol, kept, clients)
    for client in range(clients):
        for part, indices in (("training", train[client]), ("test", test[client])):
            if len(indices) == 0:
                raise UserError(f"client {client} would have no {part} images: use fewer clients than {clients}")
    train, test = tuple(map(np.sort, train)), tuple(map(np.sort, test))
    train_labels, test_labels = (
        tuple(own[indices] for indices in part)
        for own, part in ((labels, train), (imageset.test.labels, test))
    )
    return Partition(train, test, train_labels, test_labels, notes)


def refuse_unknown_partition(name: str) -> None:
    """Raises a UserError unless a partition protocol has that name."""
    if name.startswith(FLOWER):
        refuse_unknown_partitioner(name)
    elif name not in PARTITIONS:
        raise UserError(f"no partition protocol is called {name!r}: use one of {', '.join(PARTITIONS)}, or one of "
                        f"Flower's, such as {FLOWER}DirichletPartitioner")  # fmt: skip


def suggested(imageset: ImageSet, protocol: str | None = None, clients: int | None = None) -> tuple[str, int]:
    """The protocol that a set asks for by itself, and its number of clients; what is given stays.

    The clients that it came with; else a client per domain, or several that share one; else its classes, dealt to at
    most ten clients of at least two classes each; else (`dirichlet`) clients that share its few classes.

    Raises:
        UserError: there are too few classes or test images to share.
    """
    protocol = protocol or _suggested_protocol(imageset, clients)
    return protocol, clients or _suggested_clients(imageset, protocol)


def _suggested_protocol(imageset: ImageSet, clients: int | None) -> str:
    for kind, count in (("classes", len(imageset.class_names)), ("test images", len(imageset.test))):
        if count < 2:
            raise UserError(f"{imageset.name} has fewer than 2 {kind}, too few for a federation: add some")
    if imageset.clients:
        return "given"
    if imageset.domain_names:
        return "by_domain" if clients in (None, len(imageset.domain_names)) else "domain_dirichlet"
    return "label_disjoint" if max(clients or 0, 2) <= _most_by_classes(imageset) else "dirichlet"


def _suggested_clients(imageset: ImageSet, protocol: str) -> int:
    if protocol == "given":
        return max(1, len(imageset.clients))
    if protocol in ("by_domain", "domain_dirichlet"):
        return max(1, len(imageset.domain_names))
    by_images = len(imageset.test) // TESTED_EACH
    return min(10, max(2, _most_by_classes(imageset) if protocol == "label_disjoint" else by_images))


def _most_by_classes(imageset: ImageSet) -> int:
    """Clients that can have two classes each, and one class that has test images."""
    untested = len(imageset.class_names) - len(np.unique(imageset.test.labels))
    return len(imageset.class_names) // max(2, untested + 1)


def few_shot(
    labels: np.ndarray, class_names: Sequence[str], shots: int, seed: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Draws `shots` images of every class, or takes all that a class has, and says so.

    Returns:
        Their sorted indices, and notes.
    """
    drawn = []
    short = []
    for label, class_name in enumerate(class_names):
        members = np.flatnonzero(labels == label)
        drawn.append(generator(seed, "shots", label).permutation(members)[:shots])
        if len(members) < shots:
            short.append(f"{class_name} ({len(members)})")
    named = ", ".join(short[:MOST_NAMED]) + f" and {len(short) - MOST_NAMED} more" * (len(short) > MOST_NAMED)
    notes = (f"classes with fewer than {shots} training images, all of which are used: {named}",)
    return np.sort(np.concatenate(drawn)), notes if short else ()


def deal_classes(classes: int, clients: int, seed: int, deal: str = "even") -> list[np.ndarray]:
    """Shuffles the classes and deals them: each client's labels.

    Args:
        deal: "even": the numbers of classes differ by at most one. "rounded", as in the released code: round(C/N) each,
            and the last client takes the rest, such as 9 x 5 + 2 of 47.
    """
    if classes < clients:
        raise UserError(f"{classes} classes cannot be dealt to {clients} clients: use at most {classes} clients")
    order = generator(seed, "partition", "classes").permutation(classes)
    if deal == "even":
        return np.array_split(order, clients)
    if deal not in CLASS_DEALS:
        raise UserError(f"no class deal is called {deal!r}: use one of {', '.join(CLASS_DEALS)}")
    each = round(classes / clients)
    if each * (clients - 1) >= classes:
        raise UserError(
            f"{classes} classes dealt to {clients} clients by {each} leave none for the last: use another number of "
            f"clients, or deal evenly (without the protocol switch class_deal)"
        )
    return np.split(order, each * np.arange(1, clients))


def label_disjoint(
    train_labels: np.ndarray, test_labels: np.ndarray, kept: np.ndarray, hands: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Every class belongs to one client; `hands` are the clients' labels."""
    train = [kept[np.isin(train_labels[kept], hand)] for hand in hands]
    return train, [np.flatnonzero(np.isin(test_labels, hand)) for hand in hands]


def iid(kept: np.ndarray, n_test: int, clients: int, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Shuffled and dealt; the numbers of images differ by at most one."""
    train = np.array_split(generator(seed, "partition", "train").permutation(kept), clients)
    return train, np.array_split(generator(seed, "partition", "test").permutation(n_test), clients)


def following(
    train: Sequence[np.ndarray], train_labels: np.ndarray, test_labels: np.ndarray, seed: int
) -> list[np.ndarray]:
    """Test images in the proportions of the training images: a client with a third of a class is tested on a third.

    Test images of a class that nobody has been dealt are left out.

    Args:
        train: each client's training images, as indices into `train_labels`.
        test_labels: of all test images.
        seed: of which ones.
    """
    counts = np.stack([np.bincount(train_labels[own], minlength=train_labels.max() + 1) for own in train], 1)
    dealt = np.flatnonzero(counts.sum(1))  # (classes,)
    proportions = counts[dealt] / counts[dealt].sum(1, keepdims=True)  # (classes, clients)
    everything = np.arange(len(test_labels))
    return spread(test_labels, everything, dealt, proportions, generator(seed, "partition", "following"))


def domain_dirichlet(
    imageset: ImageSet, kept: np.ndarray, clients: int, seed: int, alpha: float
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Each domain is shared by as many clients; the first ones hold the first domain, and so on."""
    domains = len(imageset.domain_names)
    if not domains:
        raise UserError(f"{imageset.name} has no domains: use the protocol dirichlet, or another data set")
    if clients % domains:
        raise UserError(f"{clients} clients cannot share {domains} domains evenly: use a multiple of {domains} clients")
    train, test = [], []
    for domain in range(domains):
        in_train = kept[imageset.train.domains[kept] == domain]
        in_test = np.flatnonzero(imageset.test.domains == domain)
        labels = imageset.train.labels, imageset.test.labels
        shares = dirichlet(*labels, in_train, in_test, clients // domains, seed, alpha, domain)
        train += shares[0]
        test += shares[1]
    return train, test


def owned(
    imageset: ImageSet, protocol: str, kept: np.ndarray, clients: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Every image belongs to its domain (`by_domain`) or to the client that it came with (`given`)."""
    if protocol == "by_domain":
        kind, names, owners = "domains", imageset.domain_names, [imageset.train.domains, imageset.test.domains]
    else:
        kind, names, owners = "clients", imageset.clients, [imageset.train.clients, imageset.test.clients]
    if not names:
        raise UserError(f"{imageset.name} has no {kind} of its own: use another protocol than {protocol}")
    if clients != len(names):
        raise UserError(f"{imageset.name} has {len(names)} {kind}: use --clients {len(names)} with {protocol}, "
                        "or another protocol")  # fmt: skip
    train = [kept[owners[0][kept] == owner] for owner in range(clients)]
    test = [np.flatnonzero(owners[1] == owner) for owner in range(clients)]
    for part, shares in (("training", train), ("test", test)):
        for name, share in zip(names, shares, strict=True):
            if len(share) == 0:
                raise UserError(f"{name!r} has no {part} images: give it some, use more shots, or leave it out")
    return train, test


def dirichlet(
    train_labels: np.ndarray,
    test_labels: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    clients: int,
    seed: int,
    alpha: float,
    domain: int = 0,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Spreads the images `train` and `test` over the clients, class by class, in proportions drawn from Dir(alpha).

    A draw that leaves a client without training or test images is redrawn, at most `REDRAWS` times.
    """
    for attempt in range(REDRAWS):
        random = generator(seed, "partition", "dirichlet", domain, attempt)
        present = np.union1d(train_labels[train], test_labels[test])
        proportions = random.dirichlet(np.full(clients, alpha), size=len(present))  # (classes, clients)
        shares = [
            spread(labels, indices, present, proportions, random)
            for labels, indices in ((train_labels, train), (test_labels, test))
        ]
        if all(len(share) for part in shares for share in part):
            return shares[0], shares[1]
    raise UserError(
        f"none of {REDRAWS} draws from Dir({alpha}) gave each of {clients} clients a training and a test image "
        f"({len(train)} and {len(test)} images to share): use a larger alpha or fewer clients"
    )


def spread(
    labels: np.ndarray, indices: np.ndarray, classes: np.ndarray, proportions: np.ndarray, random: np.random.Generator
) -> list[np.ndarray]:
    """Splits each class's images at random in the given proportions, to within one image per client.

    The clients take their turns in a new order for every class: else rounding would favour the same ones every time.
    """
    shares = [[indices[:0]] for _ in range(proportions.shape[1])]
    for label, proportion in zip(classes, proportions, strict=True):
        members = random.permutation(indices[labels[indices] == label])
        order = random.permutation(len(shares))
        cuts = np.rint(np.cumsum(proportion[order])[:-1] * len(members)).astype(np.int64)
        for client, part in zip(order, np.split(members, cuts), strict=True):
            shares[client].append(part)
    return [np.concatenate(share) for share in shares]
