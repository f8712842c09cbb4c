"""DomainNet, Office-Caltech10, PACS, OfficeHome: FedBN's lists, the sets' own lists, and plain folders."""

import pickle
from pathlib import Path

import more_sets
import numpy as np
import pytest
from layouts import files_of, write_images, write_pickles

from pfedmoap.data import partition
from pfedmoap.data.catalog.domains import DOMAINNET, OFFICE, PACS
from pfedmoap.errors import UserError
from pfedmoap.experiments import load_dataset

SETS = pytest.mark.parametrize(
    ("what", "folder"), [(DOMAINNET, "DomainNet"), (OFFICE, "office_caltech_10")], ids=["domainnet", "office"]
)


def assert_matched(what, imageset):
    """The path says the same domain and class as the label's names."""
    assert imageset.class_names == tuple(name.replace("_", " ") for name in what.classes)
    assert imageset.domain_names == what.domains
    for split in (imageset.train, imageset.test):
        assert len(split.images) == len(split.labels) == len(split.domains)
        for path, label, domain in zip(map(Path, split.images.paths), split.labels, split.domains, strict=True):
            assert path.parts[-3:-1] == (what.domains[domain], what.classes[label])


@SETS
@pytest.mark.parametrize(("protocol", "dtype"), [(2, object), (4, object), (4, str), (5, str)])
def test_fedbns_lists(tmp_path, what, folder, protocol, dtype):
    write_images(tmp_path / folder, files_of(what, 3))
    write_pickles(what, tmp_path, folder, protocol, dtype)
    imageset = load_dataset(what.name, tmp_path)
    assert_matched(what, imageset)
    cells = len(what.domains) * 10
    assert (len(imageset.train), len(imageset.test)) == (2 * cells, cells)
    assert imageset.source.endswith("FedBN's lists")
    assert imageset.augment
    assert imageset.train.images[0].mode == "RGB"


@SETS
def test_plain_folders_are_divided_within_class_and_domain(tmp_path, what, folder):
    write_images(tmp_path / folder, files_of(what, 10) + [f"{what.domains[0]}/unicorn/a.jpg"])
    imageset = load_dataset(what.name, tmp_path / folder)
    assert_matched(what, imageset)
    for split, count in ((imageset.train, 7), (imageset.test, 3)):
        cells = np.bincount(split.domains * 10 + split.labels)
        assert cells.tolist() == [count] * (10 * len(what.domains))
    assert "not FedBN's lists" in imageset.source
    made = partition(imageset, "domain_dirichlet", clients=2 * len(what.domains), seed=1, alpha=0.5)
    assert sum(map(len, made.train)) == len(imageset.train)


def test_domainnets_own_lists_keep_ten_classes(tmp_path):
    folder = tmp_path / "DomainNet"
    write_images(folder, files_of(DOMAINNET, 3))
    for domain in DOMAINNET.domains:
        for part, numbers in (("train", (1, 2)), ("test", (0,))):
            rows = [f"{domain}/aircraft_carrier/{domain}_001_000001.jpg 0"]
            rows += [
                f"{domain}/{name}/{domain}_{number:03d}.jpg {100 + label}"
                for label, name in enumerate(DOMAINNET.classes)
                for number in numbers
            ]
            (folder / f"{domain}_{part}.txt").write_text("\n".join(rows) + "\n")
    imageset = load_dataset("domainnet", tmp_path)
    assert_matched(DOMAINNET, imageset)
    assert (len(imageset.train), len(imageset.test)) == (120, 60)
    assert "own lists, not FedBN's" in imageset.source


def test_list_with_mispaired_names(tmp_path):
    write_images(tmp_path / "DomainNet", files_of(DOMAINNET, 3))
    write_pickles(DOMAINNET, tmp_path, "DomainNet")
    path = tmp_path / "DomainNet" / "real_train.pkl"
    files, names = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps((files, np.roll(names, 1))))
    with pytest.raises(UserError, match="real_train.pkl pairs labels and class names in two ways"):
        load_dataset("domainnet", tmp_path)
    path.write_bytes(pickle.dumps((files, np.full(len(files), "unicorn", dtype=object))))
    with pytest.raises(UserError, match="real_train.pkl has the class 'unicorn', which domainnet has not"):
        load_dataset("domainnet", tmp_path)
    path.write_bytes(pickle.dumps((files, names[:-1])))
    with pytest.raises(UserError, match="real_train.pkl cannot be read"):
        load_dataset("domainnet", tmp_path)
    path.write_bytes(pickle.dumps((np.array(["DomainNet/../../real/bird/a.jpg"]), np.array(["bird"]))))
    with pytest.raises(UserError, match="real_train.pkl points outside its folder"):
        load_dataset("domainnet", tmp_path)
    path.unlink()
    with pytest.raises(UserError, match="real_train.pkl cannot be read .*FileNotFoundError"):
        load_dataset("domainnet", tmp_path)


def test_folders_without_a_class(tmp_path):
    files = [file for file in files_of(OFFICE, 4) if not file.startswith("dslr/mug")]
    write_images(tmp_path / "office_caltech_10", files)
    with pytest.raises(UserError, match="the class folder .*dslr/mug is missing: unpack the whole archive again"):
        load_dataset("office_caltech10", tmp_path)


def test_pacs_is_tested_on_the_lists_for_cross_validation(tmp_path):
    more_sets.pacs(tmp_path)
    imageset = load_dataset("pacs", tmp_path)
    assert_matched(PACS, imageset)
    assert (len(imageset.train), len(imageset.test)) == (2 * 28, 28)
    assert not set(imageset.train.images.paths) & set(imageset.test.images.paths)
    assert imageset.source.endswith("the lists of its authors (train and crossval)")


@pytest.mark.parametrize("folder", ["pacs", "PACS"])
def test_pacs_without_lists_is_divided(tmp_path, folder):
    write_images(tmp_path / folder, files_of(PACS, 10))
    imageset = load_dataset("pacs", tmp_path)
    assert_matched(PACS, imageset)
    assert (len(imageset.train), len(imageset.test)) == (7 * 28, 3 * 28)
    assert imageset.source.endswith("not the lists of its authors")


@pytest.mark.parametrize(("line", "message"), [
    ("photo/dog/photo_001.jpg 2", "the number of photo/dog/photo_001.jpg is not that of its folder"),
    ("photo/cat/photo_001.jpg 1", "photo_train_kfold.txt cannot be read"),
    ("photo/dog/photo_009.jpg 1", "first: photo/dog/photo_009.jpg"),
])  # fmt: skip
def test_pacs_with_a_wrong_line(tmp_path, line, message):
    more_sets.pacs(tmp_path)
    with open(tmp_path / "pacs" / "splits" / "photo_train_kfold.txt", "a") as file:
        file.write(f"{line}\n")
    with pytest.raises(UserError, match=message):
        load_dataset("pacs", tmp_path)


def test_office_home_means_the_same_however_it_is_spelt(tmp_path):
    for root, dassl in (("authors", False), ("dassl", True)):
        more_sets.office_home(tmp_path / root, dassl)
    authors, dassl = (load_dataset("office_home", tmp_path / root) for root in ("authors", "dassl"))
    assert authors.class_names == dassl.class_names == ("alarm clock", "table", "tv")
    assert authors.domain_names == dassl.domain_names == ("art", "clipart", "product", "real_world")
    for imageset in (authors, dassl):
        for split, count in ((imageset.train, 7), (imageset.test, 3)):
            assert np.bincount(split.domains * 3 + split.labels).tolist() == [count] * 12
            for path, label, domain in zip(split.images.paths, split.labels, split.domains, strict=True):
                plain = path.lower().replace(" ", "_")
                assert imageset.class_names[label].replace(" ", "_") == plain.split("/")[-2]
                assert f"/{imageset.domain_names[domain]}/" in plain
    assert authors.source.endswith("not Dassl's folders") and dassl.source.endswith(", Dassl's folders")


def test_office_home_that_is_incomplete(tmp_path):
    more_sets.office_home(tmp_path)
    folder = tmp_path / "OfficeHomeDataset_10072016"
    (folder / "Clipart" / "TV").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="Clipart and other domains differ in the class 'tv'"):
        load_dataset("office_home", tmp_path)
    (folder / "Art").rename(tmp_path / "art")
    with pytest.raises(UserError, match="has no domain 'art': unpack the whole archive again"):
        load_dataset("office_home", tmp_path)
