"""CIFAR as python batches and as folders; pickles that would do harm do nothing."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from layouts import write_cifar_batch, write_classes, write_python2_pickle

from pfedmoap.errors import UserError
from pfedmoap.experiments import load_dataset

NAMES = [b"airplane", b"automobile", b"aquarium_fish"]


def write_cifar10(root):
    folder = root / "cifar-10-batches-py"
    write_python2_pickle(folder / "batches.meta", {b"num_cases_per_batch": 2, b"label_names": NAMES})
    batches = {f"data_batch_{k}": [k % 3, 0] for k in range(1, 6)} | {"test_batch": [2, 1, 0]}
    return {
        name: (write_cifar_batch(folder / name, labels, b"labels", seed), labels)
        for seed, (name, labels) in enumerate(batches.items())
    }


def test_cifar10_batches(tmp_path):
    batches = write_cifar10(tmp_path)
    imageset = load_dataset("cifar10", tmp_path)
    assert imageset.class_names == ("airplane", "automobile", "aquarium fish")
    assert imageset.train.labels.tolist() == [1, 0, 2, 0, 0, 0, 1, 0, 2, 0]
    assert imageset.test.labels.tolist() == [2, 1, 0]
    assert imageset.train.labels.dtype == np.int64
    assert np.array_equal(imageset.train.images[3], batches["data_batch_2"][0][1])
    assert np.array_equal(imageset.test.images[2], batches["test_batch"][0][2])
    assert imageset.test.images[2].mode == "RGB"
    assert not imageset.augment


def test_cifar100_batches_have_the_fine_labels(tmp_path):
    folder = tmp_path / "cifar-100-python"
    names = {b"fine_label_names": NAMES, b"coarse_label_names": [b"things"]}
    write_python2_pickle(folder / "meta", names)
    for name, labels in (("train", [0, 1, 2, 1]), ("test", [2, 2, 0])):
        write_cifar_batch(folder / name, labels, b"fine_labels", seed=1)
    imageset = load_dataset("cifar100", tmp_path / "cifar-100-python")
    assert imageset.class_names == ("airplane", "automobile", "aquarium fish")
    assert imageset.train.labels.tolist() == [0, 1, 2, 1]
    assert imageset.test.labels.tolist() == [2, 2, 0]


def test_fingerprint_follows_pixels_and_labels(tmp_path):
    write_cifar10(tmp_path)
    before = load_dataset("cifar10", tmp_path).fingerprint
    assert load_dataset("cifar10", tmp_path).fingerprint == before
    write_cifar_batch(tmp_path / "cifar-10-batches-py" / "test_batch", [2, 1, 0], b"labels", seed=77)
    assert load_dataset("cifar10", tmp_path).fingerprint != before


def test_cifar10_folders(tmp_path):
    write_classes(tmp_path / "cifar10" / "train", {"truck": 3, "airplane": 4})
    write_classes(tmp_path / "cifar10" / "test", {"truck": 2, "airplane": 1})
    imageset = load_dataset("cifar10", tmp_path)
    assert imageset.class_names == ("airplane", "truck")
    assert np.bincount(imageset.train.labels).tolist() == [4, 3]
    assert np.bincount(imageset.test.labels).tolist() == [1, 2]
    for path, label in zip(map(Path, imageset.train.images.paths), imageset.train.labels, strict=True):
        assert path.parts[-3:-1] == ("train", imageset.class_names[label])
    assert not imageset.augment


def test_cifar10_folders_with_different_classes(tmp_path):
    write_classes(tmp_path / "cifar10" / "train", {"truck": 3, "airplane": 4})
    write_classes(tmp_path / "cifar10" / "test", {"truck": 2})
    with pytest.raises(UserError, match="has class 'airplane' only in train or only in test"):
        load_dataset("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({b"data": np.zeros((2, 3072), dtype=np.uint8), b"labels": [0]}, "do not fit together"),
        ({b"data": np.zeros((1, 3072), dtype=np.uint8), b"labels": [3]}, "do not fit together"),
        ({b"data": np.zeros((1, 3072), dtype=np.uint8)}, "KeyError"),
        ({b"data": np.zeros((1, 99), dtype=np.uint8), b"labels": [0]}, "cannot reshape"),
        ([1, 2, 3], "TypeError"),
    ],
)
def test_batch_that_cannot_be_right(tmp_path, content, message):
    write_cifar10(tmp_path)
    write_python2_pickle(tmp_path / "cifar-10-batches-py" / "data_batch_3", content)
    with pytest.raises(UserError, match=f"data_batch_3 cannot be read .*{message}.*download it again"):
        load_dataset("cifar10", tmp_path)


def test_batch_that_was_cut_off(tmp_path):
    write_cifar10(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="data_batch_3 cannot be read"):
        load_dataset("cifar10", tmp_path)


class Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_that_would_do_harm_is_refused_and_not_executed(tmp_path, protocol):
    write_cifar10(tmp_path)
    hidden_in_an_array = np.array([Harm(tmp_path / "harm")], dtype=object)
    content = pickle.dumps({"data": hidden_in_an_array, "labels": [0]}, protocol=protocol)
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(content)
    with pytest.raises(UserError, match=r"data_batch_1 cannot be read .*it would call (io|_io|__builtin__)\.open"):
        load_dataset("cifar10", tmp_path)
    assert not (tmp_path / "harm").exists()
    pickle.loads(content)
    assert (tmp_path / "harm").exists()  # it would have
