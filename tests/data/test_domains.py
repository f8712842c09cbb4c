"""DomainNet and Office-Caltech10: FedBN's lists, DomainNet's lists, and plain folders."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from layouts import files_of, write_images, write_pickles

from pfedmoap.data import partition
from pfedmoap.data.catalog.domains import DOMAINNET, OFFICE
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
