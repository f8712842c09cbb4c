"""The embedded data sets: complete, consistent, deterministic in their name, and lazy."""

import hashlib
import zipfile

import numpy as np
import pytest
from PIL import Image

from pfedmoap.embedded import copying, photographs, sets, styles
from pfedmoap.errors import UserError

CLASSES = {"animals": 20, "nature": 20, "household": 20, "machines": 20, "caltech40": 40, "mixed40": 40, "caltech": 100,
           "domains": 10, "office": 10, "digits": 10}  # fmt: skip
ALL = [*sets.NAMES, *(name + sets.VALIDATION for name in sets.NAMES)]


def test_the_known_names():
    assert set(sets.NAMES) == set(CLASSES)


@pytest.mark.parametrize("name", ALL)
def test_labels_names_and_sizes(name):
    images = sets.load(name)
    classes, validation = CLASSES[name.removesuffix(sets.VALIDATION)], name.endswith(sets.VALIDATION)
    assert images.name == name
    assert len(images.class_names) == len(set(images.class_names)) == classes
    assert all(text == text.lower() and "_" not in text for text in images.class_names)
    assert images.augment is False
    for split, count in ((images.train, 11 if validation else 18), (images.test, 7 if validation else 13)):
        assert len(split) == len(split.images) == len(split.labels)
        assert split.labels.dtype == np.int64
        counts = np.bincount(split.labels, minlength=classes)
        assert len(counts) == classes
        if "digits" not in name:
            assert set(counts) == {count * max(1, len(images.domain_names))}
        if images.domain_names:
            assert split.domains.dtype == np.int64
            assert set(split.domains) == set(range(len(images.domain_names)))
        else:
            assert split.domains is None


@pytest.mark.parametrize("name, domains", [("domains", 6), ("office", 4)])
def test_every_domain_has_every_photograph(name, domains):
    images = sets.load(name)
    table = np.zeros((domains, 10), int)
    np.add.at(table, (images.train.domains, images.train.labels), 1)
    assert (table == photographs.TRAIN).all()
    first = [images.train.images[domain * len(images.train) // domains] for domain in range(domains)]
    assert len({image.size for image in first}) == 1 and len({image.tobytes() for image in first}) == domains


def test_a_photograph_for_training_is_for_testing_nowhere():
    for folder in photographs.files():
        own, validation = photographs.divided(folder, False), photographs.divided(folder, True)
        assert not set(own["train"]) & set(own["test"])
        assert not set(validation["train"]) & set(validation["test"])
        assert {*validation["train"], *validation["test"]} == set(own["train"])


def test_digits_are_split_within_the_training_part():
    images, part = sets.load("digits"), sets.load("digits-validation")
    train, test = ({picture.tobytes() for picture in split.images} for split in (images.train, images.test))
    validation = [picture.tobytes() for split in (part.train, part.test) for picture in split.images]
    assert len(validation) == len(images.train) and set(validation) == train and not train & test
    assert images.train.images[0].size == (32, 32)


def test_no_double_is_in_two_classes():
    assert "face close up" not in sets.load("caltech").class_names
    both = set(sets.load("caltech40").class_names), set(sets.load("mixed40").class_names)
    assert not both[0] & both[1] and both[0] | both[1] < set(sets.load("caltech").class_names)


@pytest.mark.parametrize("name", ["animals", "office", "digits"])
def test_images_are_rgb_the_same_each_time_and_made_when_asked_for(name, monkeypatch):
    images = sets.load(name).test.images
    for index in (0, 7, -1):
        assert images[index].mode == "RGB" and 32 <= min(images[index].size) <= copying.SHORT_SIDE
        np.testing.assert_array_equal(np.asarray(images[index]), np.asarray(sets.load(name).test.images[index]))
    with pytest.raises(IndexError):
        images[len(images)]
    monkeypatch.setattr(photographs, "read", lambda name: 1 / 0)
    sets.load("office")


def test_fingerprints_tell_sets_and_contents_apart(monkeypatch):
    prints = [sets.load(name).fingerprint for name in ALL]
    assert len(set(prints)) == len(prints) and prints == [sets.load(name).fingerprint for name in ALL]
    before = sets.load("animals").fingerprint
    monkeypatch.setattr(photographs, "fingerprint", lambda: "another archive")
    assert sets.load("animals").fingerprint != before


def test_an_unknown_set_is_refused():
    with pytest.raises(UserError, match="no embedded data set is called 'animal': use one of animals"):
        sets.load("animal")


def test_the_archive_is_small_and_says_whose_it_is():
    assert photographs.ARCHIVE.stat().st_size < 15e6
    with zipfile.ZipFile(photographs.ARCHIVE) as archive:
        text = archive.read("LICENSE.txt").decode()
        assert len(archive.namelist()) == 1 + 101 * copying.PER_CLASS
    assert "Attribution 4.0" in text and "10.22002/D1.20086" in text and "Changed:" in text


def test_copying_gives_the_same_bytes_each_time(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        folder = tmp_path / "all" / copying.FOLDER / name
        folder.mkdir(parents=True)
        for number in range(copying.PER_CLASS + 2):
            size = (300, 100, 3) if number % 2 else (150, 200, 3)
            Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(folder / f"image_{number:04d}.jpg")
    digests = []
    for out in (tmp_path / "one.zip", tmp_path / "two.zip"):
        copying.main(["--root", str(tmp_path / "all"), "--out", str(out)])
        digests.append(hashlib.sha256(out.read_bytes()).hexdigest())
    assert digests[0] == digests[1]
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        pictures = [name for name in archive.namelist() if name.endswith(".jpg")]
        sizes = {Image.open(archive.open(name)).size for name in pictures}
    assert len(pictures) == 2 * copying.PER_CLASS and sizes == {(100, 150), (149, 112)}
    with pytest.raises(UserError, match=f"has no folder {copying.FOLDER}"):
        copying.copy(tmp_path, tmp_path / "three.zip")


@pytest.mark.parametrize("style", [*sets._STYLES, *sets._OFFICE_STYLES])
def test_styles_keep_the_size_and_something_to_see(style):
    image = photographs.read(photographs.files()["elephant"][0])
    styled, again = (getattr(styles, style)(image, np.random.default_rng(0)) for _ in range(2))
    assert styled.size == image.size and styled.mode == "RGB"
    assert styled.tobytes() == again.tobytes() and (styled.tobytes() == image.tobytes()) == (style == "photo")
    assert np.asarray(styled).std() > 20
