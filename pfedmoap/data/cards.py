"""One card per data set: licence, source, citation, counts, what is odd, and where it has to lie."""

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pfedmoap.data.downloads import checksums

CARDS = Path(__file__).with_name("cards.toml")


@dataclass(frozen=True)
class Card:
    """What is known about a data set, whether it is there or not; plain values, fit for JSON.

    Attributes:
        title: as its authors call it.
        classes, domains: how many; 0 domains for a set without.
        train, test: images of CoOp's split, or of the official one; None where neither fixes a number.
        images: of both together, where only that is fixed.
        licence: its terms, or that its authors state none.
        source: where it comes from.
        citation: whom to cite.
        layout: the folders that are understood, below the data root.
        odd: what one should know before trusting a number.
        checksums: MD5 of the files to fetch, where torchvision has them.
    """

    title: str
    classes: int
    licence: str
    source: str
    citation: str
    layout: tuple[str, ...]
    odd: str
    domains: int = 0
    train: int | None = None
    test: int | None = None
    images: int | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)

    def lacking(self, classes: int, domains: int, train: int, test: int) -> tuple[str, ...]:
        """What is missing from a set with these counts, one sentence each.

        More images than expected are no problem: without its list a set may be divided in full.
        """
        found = {"classes": (classes, self.classes), "domains": (domains, self.domains)}
        wrong = {kind: pair for kind, pair in found.items() if pair[0] != pair[1]}
        counts = {"training images": (train, self.train), "test images": (test, self.test),
                  "images": (train + test, self.images)}  # fmt: skip
        wrong |= {kind: pair for kind, pair in counts.items() if pair[1] is not None and pair[0] < pair[1]}
        return tuple(f"{have:,} {kind} were found instead of {expected:,}: unpack the whole archive again"
                     for kind, (have, expected) in wrong.items())  # fmt: skip


def find_card(name: str) -> Card | None:
    """The card of a data set on disk or an embedded one; None for your own folders."""
    known = _entries()
    if name not in known:
        return None
    entry = known.get(known[name].get("like", ""), {}) | known[name]
    fields: dict[str, Any] = {key: value for key, value in entry.items() if key != "like"}
    return Card(**fields | {"layout": tuple(entry["layout"]), "checksums": checksums(name)})


@functools.cache
def _entries() -> dict[str, dict[str, Any]]:
    return tomllib.loads(CARDS.read_text(encoding="utf-8"))
