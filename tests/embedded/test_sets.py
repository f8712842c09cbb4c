"""The embedded data sets: complete, consistent, deterministic in their name, and lazy."""

import numpy as np
import pytest
from PIL import Image

from pfedmoap.embedded import sets
from pfedmoap.errors import UserError

CLASSES = {"patterns": 40, "attr3": 50, "colorshape": 100, "texshape": 60, "shapes": 40, "domains": 10, "office": 10}
CLASSES["digits"] = 10
ALL = [*sets.NAMES, *(name + sets.VALIDATION for name in sets.NAMES)]


def test_the_known_names():
    assert set(sets.NAMES) == set(CLASSES)


@pytest.mark.parametrize("name", ALL)
def test_labels_names_and_sizes(name):
    images = sets.load(name)
    base = name.removesuffix(sets.VALIDATION)
    classes = CLASSES[base]
    assert images.name == name
    assert len(images.class_names) == len(set(images.class_names)) == classes
    assert not any("_" in text for text in images.class_names)
    assert images.augment is False
    for split, least in ((images.train, 16), (images.test, 10)):
        assert len(split) == len(split.images) == len(split.labels)
        assert split.labels.dtype == np.int64
        counts = np.bincount(split.labels, minlength=classes)
        assert len(counts) == classes
        assert counts.min() >= least
        if images.domain_names:
            assert split.domains.dtype == np.int64
            assert set(split.domains) == set(range(len(images.domain_names)))
        else:
            assert split.domains is None


def test_domains():
    assert len(sets.load("domains").domain_names) == 6
    assert len(sets.load("office").domain_names) == 4
    domains = sets.load("domains")
    table = np.zeros((6, 10), int)
    np.add.at(table, (domains.train.domains, domains.train.labels), 1)
    assert (table == 30).all()


@pytest.mark.parametrize("name", ["attr3", "office", "digits"])
def test_images_are_pil_and_agree_with_the_array(name):
    pictures = sets.load(name).test.images
    array = pictures.as_array()
    assert array.shape == (len(pictures), 32, 32, 3)
    assert array.dtype == np.uint8
    for index in (0, 7, -1):
        picture = pictures[index]
        assert isinstance(picture, Image.Image)
        assert picture.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(picture), array[index])
    assert len(pictures[3:9]) == 6
    with pytest.raises(IndexError):
        pictures[len(pictures)]


@pytest.mark.parametrize("name", sets.NAMES)
def test_loading_twice_gives_the_same_and_validation_shares_no_test_image(name):
    first, again, validation = sets.load(name), sets.load(name), sets.load(name + sets.VALIDATION)
    test = first.test.images.as_array()
    np.testing.assert_array_equal(test, again.test.images.as_array())
    assert first.fingerprint == again.fingerprint != validation.fingerprint
    assert first.class_names == validation.class_names
    parts = [first.train.images.as_array(), validation.train.images.as_array(), validation.test.images.as_array()]
    seen = {picture.tobytes() for picture in test}
    # The digits' validation draw comes from their training part: it may share training images, never test images.
    assert not any(picture.tobytes() in seen for part in parts for picture in part)
    held_apart = {picture.tobytes() for picture in parts[1]}
    assert not any(picture.tobytes() in held_apart for picture in parts[2])
    if name != "digits":
        trained = {picture.tobytes() for picture in parts[0]}
        assert not any(picture.tobytes() in trained for part in parts[1:] for picture in part)


def test_nothing_is_drawn_before_it_is_asked_for(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("drawn too early")

    monkeypatch.setattr(sets, "draw", refuse)
    monkeypatch.setattr(sets, "compose", refuse)
    images = sets.load("patterns")
    assert len(images.train) == 960
    with pytest.raises(AssertionError, match="too early"):
        images.train.images[0]


def test_digits_are_white_on_black():
    digits = sets.load("digits").train.images.as_array()
    assert digits[:, :4].max() == 0
    assert digits[:, :, -4:].max() == 0
    assert digits.max() >= 250


@pytest.mark.parametrize("name", ["flowers102", "patterns-", "-validation", ""])
def test_unknown_names_are_refused_by_naming_the_known_ones(name):
    with pytest.raises(UserError, match="patterns.*digits.*-validation"):
        sets.load(name)
