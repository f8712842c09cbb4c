"""What is asked beyond the paper's test, and which part of a data set is kept from training for it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pfedmoap.data import ImageSet, Partition, Split
from pfedmoap.errors import UserError
from pfedmoap.randomness import generator

LOCAL = "local"  # the paper's test and nothing else
SHARE = 0.3  # of the clients that join later, if none is given
QUESTIONS = f"{LOCAL}, base_new, new_clients:SHARE or unseen_domain:NAME"


@dataclass(frozen=True)
class Seen:
    """The part of a set that is dealt to clients, and where its images are in the whole.

    Attributes:
        imageset: a set of its own, to be dealt.
        train, test: of each of its images the index in the whole set's split.
    """

    imageset: ImageSet
    train: np.ndarray
    test: np.ndarray

    def in_whole(self, shares: Partition) -> Partition:
        """A partition of this part as one of the whole set; labels stay."""
        return replace(shares, train=tuple(self.train[own] for own in shares.train),
                       test=tuple(self.test[own] for own in shares.test))


@dataclass(frozen=True)
class Question:
    """Base: everything is dealt, everyone trains, and all class names are known."""

    def __str__(self) -> str:
        """As `question` reads it; the same text for the same question."""
        return LOCAL

    def seen(self, whole: ImageSet) -> Seen:
        """What is dealt.

        Raises:
            UserError: the set cannot be divided like that.
        """
        return Seen(whole, np.arange(len(whole.train)), np.arange(len(whole.test)))

    def trained_names(self, names: Sequence[str]) -> tuple[str, ...]:
        """The classes that prompts are trained on: all, or the first ones."""
        return tuple(names)

    def participants(self, clients: int, seed: int) -> np.ndarray:
        """The clients that take part in training, ascending."""
        return np.arange(clients)


@dataclass(frozen=True)
class BaseNew(Question):
    """The first half of the classes is dealt and trained on, the rest never (CoOp's rule: of 2n + 1 classes n + 1)."""

    def __str__(self) -> str:
        return "base_new"

    def seen(self, whole: ImageSet) -> Seen:
        classes, base = len(whole.class_names), self.base(len(whole.class_names))
        if classes < 2:
            raise UserError(f"{whole.name} has {classes} class, and base_new needs at least one to train on and one "
                            f"that is new: choose another data set.")
        parts = {"training images of its base classes": whole.train.labels < base,
                 "test images of its base classes": whole.test.labels < base,
                 "test images of its new classes": whole.test.labels >= base}
        for what, there in parts.items():
            if not there.any():
                raise UserError(f"{whole.name} has no {what}, which base_new needs: add some, or choose another data "
                                f"set.")
        kept = _kept(whole, whole.train.labels < base, whole.test.labels < base)
        return replace(kept, imageset=replace(kept.imageset, class_names=self.trained_names(whole.class_names)))

    def trained_names(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(names[: self.base(len(names))])

    @staticmethod
    def base(classes: int) -> int:
        """How many of the classes are trained on."""
        return math.ceil(classes / 2)


@dataclass(frozen=True)
class NewClients(Question):
    """A share of the clients, drawn from (seed), takes no part in training and joins afterwards."""

    share: float

    def __str__(self) -> str:
        return f"new_clients:{self.share:g}"

    def participants(self, clients: int, seed: int) -> np.ndarray:
        held_out = max(1, int(self.share * clients + 1e-9))
        if held_out >= clients:
            raise UserError(f"new_clients:{self.share:g} holds out {held_out} of {clients} clients, so that nobody is "
                            f"left to train: use a smaller share, or more clients.")
        order = generator(seed, "new clients").permutation(clients)
        return np.sort(order[held_out:])

    def newcomers(self, clients: int, seed: int) -> np.ndarray:
        """The clients that join later, ascending."""
        return np.setdiff1d(np.arange(clients), self.participants(clients, seed))


@dataclass(frozen=True)
class UnseenDomain(Question):
    """One domain is neither dealt nor trained on; every client is tested on its test images."""

    domain: str

    def __str__(self) -> str:
        return f"unseen_domain:{self.domain}"

    def seen(self, whole: ImageSet) -> Seen:
        left_out = self.number(whole)
        kept = _kept(whole, whole.train.domains != left_out, whole.test.domains != left_out)
        names = tuple(name for name in whole.domain_names if name != whole.domain_names[left_out])
        train, test = (replace(split, domains=split.domains - (split.domains > left_out))
                       for split in (kept.imageset.train, kept.imageset.test))
        return replace(kept, imageset=replace(kept.imageset, train=train, test=test, domain_names=names))

    def number(self, whole: ImageSet) -> int:
        """The domain's place among the set's.

        Raises:
            UserError: the set has no such domain, no other one, or no test image of it.
        """
        names = [name.casefold() for name in whole.domain_names]
        if self.domain.casefold() not in names:
            known = f"choose one of {', '.join(whole.domain_names)}" if names else "choose a set with domains"
            raise UserError(f"{whole.name} has no domain {self.domain!r} to leave out: {known}.")
        number = names.index(self.domain.casefold())
        if len(names) < 2 or not (whole.test.domains == number).any():
            lack = "no other domain to train on" if len(names) < 2 else f"no test images of {self.domain}"
            raise UserError(f"{whole.name} has {lack}: choose another data set, or add some.")
        return number


def question(text: str) -> Question:
    """What an experiment's `evaluate` asks.

    Raises:
        UserError: it is none of `QUESTIONS`.
    """
    name, colon, detail = text.partition(":")
    if name in (LOCAL, "base_new") and not colon:
        return Question() if name == LOCAL else BaseNew()
    if name == "unseen_domain" and detail:
        return UnseenDomain(detail.casefold())
    if name == "new_clients":
        try:
            share = float(detail) if colon else SHARE
        except ValueError:
            share = 0.0
        if 0 < share < 1:
            return NewClients(share)
        raise UserError(f"The share of new clients must be a number > 0 and < 1, as in new_clients:0.3, not "
                        f"{detail!r}.")
    raise UserError(f"evaluate must be {QUESTIONS}, not {text!r}.")


def _kept(whole: ImageSet, train: np.ndarray, test: np.ndarray) -> Seen:
    """The images that the two masks keep."""
    rows = {"train": np.flatnonzero(train), "test": np.flatnonzero(test)}
    parts = {name: _subset(getattr(whole, name), kept) for name, kept in rows.items()}
    return Seen(replace(whole, **parts), rows["train"], rows["test"])


def _subset(split: Split, rows: np.ndarray) -> Split:
    """Some images of a split, for dealing: the images themselves stay with the whole."""
    part = {name: None if (values := getattr(split, name)) is None else values[rows]
            for name in ("labels", "domains", "clients")}
    return Split(images=(), **part)
