"""Every data set has a card with every field, and the counts on it are those of the sets that are here."""

import dataclasses
import tomllib

import pytest

from pfedmoap import embedded
from pfedmoap.data import ON_DISK, downloads, find_card
from pfedmoap.data.cards import CARDS
from pfedmoap.experiments import load_dataset


def test_there_is_a_card_of_every_set_and_of_no_other():
    assert set(tomllib.loads(CARDS.read_text())) == {*ON_DISK, *embedded.NAMES}
    assert find_card("folders") is None


@pytest.mark.parametrize("name", [*ON_DISK, *embedded.NAMES])
def test_cards_are_complete(name):
    card = find_card(name)
    for field in ("title", "licence", "source", "citation", "odd"):
        text = getattr(card, field)
        assert isinstance(text, str) and 3 <= len(text) <= 130 and text == text.strip()
    assert card.classes > 1 and card.layout and all(card.layout)
    counts = [count for count in (card.train, card.test, card.images) if count is not None]
    assert all(count >= card.classes for count in counts)
    assert counts or "no count" in card.odd
    assert len({dataclasses.astuple(find_card(other))[0] for other in ON_DISK}) == len(ON_DISK)


@pytest.mark.parametrize("name", embedded.NAMES)
def test_embedded_sets_are_as_their_cards_say(name):
    imageset, card = load_dataset(name), find_card(name)
    found = len(imageset.class_names), len(imageset.domain_names), len(imageset.train), len(imageset.test)
    assert found == (card.classes, card.domains, card.train, card.test)


def test_checksums_are_torchvisions():
    assert find_card("imagenet").checksums["ILSVRC2012_img_val.tar"] == "29b22e2961454d5413ddabcf34fc5622"
    assert list(find_card("flowers102").checksums) == ["102flowers.tgz", "imagelabels.mat"]
    assert list(find_card("eurosat").checksums) == ["EuroSAT.zip"]
    assert find_card("fgvc_aircraft").checksums == find_card("pacs").checksums == {}
    assert downloads.sources("fgvc_aircraft")[0].md5 is None


def test_fewer_is_lacking_and_more_is_not():
    card = find_card("eurosat")
    assert card.lacking(10, 0, 13500, 8100) == card.lacking(10, 0, 13501, 8200) == ()
    assert card.lacking(9, 0, 13500, 8099) == (
        "9 classes were found instead of 10: unpack the whole archive again",
        "8,099 test images were found instead of 8,100: unpack the whole archive again")
    pacs = find_card("pacs")
    assert pacs.lacking(7, 4, 6993, 2997) == ()
    assert pacs.lacking(7, 3, 6993, 2996) == (
        "3 domains were found instead of 4: unpack the whole archive again",
        "9,989 images were found instead of 9,990: unpack the whole archive again")
