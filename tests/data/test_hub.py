"""Sets in Hugging Face's format, as its own library writes them: images, classes, splits, owners, and what is refused.
"""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from pfedmoap.commands.options import known_dataset
from pfedmoap.data import HubImages, diagnose, is_own
from pfedmoap.errors import UserError
from pfedmoap.experiments import Experiment, Place, Store, examine, load_dataset, run, suggested_settings

NO_HUB = "datasets is an optional extra: pip install 'pfedmoap[hub]'"
NAMES = ["hot_dog", "owl", "unseen"]


@pytest.fixture
def hf(tmp_path, monkeypatch):
    """Hugging Face's library, with a cache of its own."""
    datasets = pytest.importorskip("datasets", reason=NO_HUB)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf cache")
    datasets.disable_progress_bars()
    return datasets


def picture(shade: int) -> Image.Image:
    return Image.new("RGB", (9, 8), (shade, 2 * shade % 256, 90))


def write(hf, path, labels, names=NAMES, shades=None, **columns):
    """One parquet file; `names` None stores the labels as text."""
    features = {"image": hf.Image(), "label": hf.ClassLabel(names=names) if names else hf.Value("string")}
    kinds = {str: "string", int: "int64"}
    features |= {name: hf.Value(kinds[type(values[0])]) for name, values in columns.items()}
    images = [picture(shade) for shade in shades or range(len(labels))]
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {"image": images, "label": labels, **columns}
    hf.Dataset.from_dict(table, features=hf.Features(features)).to_parquet(path)


def pixels(images, index):
    return np.asarray(images[index])


def test_three_splits_the_test_split_is_used_and_validation_left_out(hf, tmp_path):
    write(hf, tmp_path / "birds/train-00000-of-00001.parquet", [0, 1, 1])
    write(hf, tmp_path / "birds/validation-00000-of-00001.parquet", [0])
    write(hf, tmp_path / "birds/test-00000-of-00001.parquet", [1, 0], shades=[70, 80])
    loaded = load_dataset("hf:birds", tmp_path)
    assert (loaded.name, loaded.class_names) == ("hf:birds", ("hot dog", "owl"))
    assert loaded.train.labels.tolist() == [0, 1, 1] and loaded.test.labels.tolist() == [1, 0]
    assert isinstance(loaded.train.images, HubImages) and len(loaded.test.images) == 2
    assert np.array_equal(pixels(loaded.train.images, 2), picture(2))
    assert np.array_equal(pixels(loaded.test.images, 1), picture(80))
    assert "tested on test; left out: split validation" in loaded.source and loaded.train.domains is None


def test_a_test_split_without_labels_is_replaced_by_the_validation_split(hf, tmp_path):
    write(hf, tmp_path / "train.parquet", [0, 1])
    write(hf, tmp_path / "validation.parquet", [1, 0, -1])
    write(hf, tmp_path / "test.parquet", [-1, -1])
    loaded = load_dataset(f"hf:{tmp_path}")
    assert loaded.test.labels.tolist() == [1, 0]
    assert "tested on validation; left out: split test, 1 image without a label" in loaded.source


def test_a_single_file_is_divided_by_the_rule_of_folders(hf, tmp_path):
    write(hf, tmp_path / "all.parquet", ["owl"] * 10 + ["hot_dog"] * 10, None)
    loaded = load_dataset("hf:all.parquet", tmp_path)
    assert loaded.class_names == ("hot dog", "owl") and "divided 70/30 %" in loaded.source
    assert np.bincount(loaded.train.labels).tolist() == [7, 7] and np.bincount(loaded.test.labels).tolist() == [3, 3]
    shades = [part.images[i].getpixel((0, 0))[0] for part in (loaded.train, loaded.test) for i in range(len(part))]
    assert sorted(shades) == list(range(20))
    assert [shade < 10 for shade in shades] == [label == 1 for label in [*loaded.train.labels, *loaded.test.labels]]


def test_columns_called_client_and_domain_say_who_owns_an_image(hf, tmp_path):
    labels = [0, 1] * 6
    write(hf, tmp_path / "train.parquet", labels, client=[10, 10, 2, 2] * 3, domain=["photo", "sketch"] * 6)
    write(hf, tmp_path / "test.parquet", labels, client=[2, 2, 10, 10] * 3, domain=["photo", "sketch"] * 6)
    loaded = load_dataset(f"hf:{tmp_path}")
    assert (loaded.clients, loaded.domain_names) == (("2", "10"), ("photo", "sketch"))
    assert loaded.train.clients[:4].tolist() == [1, 1, 0, 0] and loaded.train.domains[:2].tolist() == [0, 1]
    assert suggested_settings(loaded) == {"partition": "given", "clients": 2, "shots": None}


def test_the_column_of_the_classes_can_be_named(hf, tmp_path):
    kinds = ["food", "bird", "bird", "bird"]
    write(hf, tmp_path / "all.parquet", [0, 1, 1, 0], kind=kinds, photographer=["ann", "bob"] * 2)
    assert load_dataset(f"hf:{tmp_path}").class_names == ("hot dog", "owl")
    assert load_dataset(f"hf:{tmp_path}#kind").class_names == ("bird", "food")
    with pytest.raises(UserError, match="no column 'colour' of class names: choose one of label, kind, photographer"):
        load_dataset(f"hf:{tmp_path}#colour")
    hf.load_dataset("parquet", data_files=str(tmp_path / "all.parquet"), split="train").remove_columns(
        "label").to_parquet(tmp_path / "other/all.parquet")
    with pytest.raises(UserError, match=r"several columns that could be the classes \(kind, photographer\): name one"):
        load_dataset(f"hf:{tmp_path / 'other'}")


def test_a_configuration_can_be_named(hf, tmp_path):
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: small\n  data_files: small.parquet\n"
        "- config_name: large\n  data_files: large.parquet\n---\n")
    write(hf, tmp_path / "small.parquet", [0, 1] * 5)
    write(hf, tmp_path / "large.parquet", [0, 1] * 10)
    assert len(load_dataset(f"hf:{tmp_path}@large").train) == 14
    with pytest.raises(UserError, match=r"Config name is missing.*hf:NAME@CONFIG"):
        load_dataset(f"hf:{tmp_path}")


def test_the_fingerprint_is_of_the_content_wherever_it_lies(hf, tmp_path):
    write(hf, tmp_path / "a/all.parquet", [0, 1] * 5)
    write(hf, tmp_path / "b/moved.parquet", [0, 1] * 5)
    write(hf, tmp_path / "labels/all.parquet", [1, 0] * 5)
    write(hf, tmp_path / "pixels/all.parquet", [0, 1] * 5, shades=[*range(9), 99])
    sets = [load_dataset(f"hf:{name}", tmp_path) for name in ("a", "b", "labels", "pixels")]
    first, moved, *others = (loaded.fingerprint for loaded in sets)
    assert first == moved and len({first, *others}) == 3


def test_photographs_are_turned_upright_and_broken_ones_named(hf, tmp_path):
    turned, file = Image.Exif(), io.BytesIO()
    turned[0x0112] = 6
    picture(3).save(file, "PNG", exif=turned)
    cells = [{"bytes": file.getvalue(), "path": None}, {"bytes": b"no image", "path": None}, None] * 4
    table = {"image": cells, "label": [0] * 12}
    features = hf.Features(image=hf.Image(decode=False), label=hf.ClassLabel(names=NAMES))
    hf.Dataset.from_dict(table, features=features).to_parquet(tmp_path / "train.parquet")
    write(hf, tmp_path / "test.parquet", [0])
    loaded = load_dataset(f"hf:{tmp_path}")
    assert loaded.train.images[0].size == (8, 9)
    for index in (1, 2):
        with pytest.raises(UserError, match=rf"image {index} of hf:.* \(train\) cannot be read as an image"):
            loaded.train.images[index]
    found = diagnose(loaded, tmp_path / "cache", every_file=True, progress=False)
    assert found.files == "8 of 13 files broken, all opened" and len(found.problems) == 8


def test_images_of_class_folders_lie_beside_the_set(hf, tmp_path):
    for name in ("hot_dog", "owl"):
        for part, count in (("train", 3), ("test", 2)):
            for number in range(count):
                path = tmp_path / "birds" / part / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture(number).save(path)
    loaded = load_dataset("hf:birds", tmp_path)
    assert (len(loaded.train), len(loaded.test), loaded.class_names) == (6, 4, ("hot dog", "owl"))
    assert np.array_equal(pixels(loaded.test.images, 1), picture(1))


@pytest.mark.parametrize("labels, names, message", [
    ([0, 1], ["Owl", "owl"], "differ only in case"),
    ([0, 1], None, "no column of class names"),
    ([-1, -1], NAMES, "no image with a label"),
    ([0, 1], ["owl", "owl "], "two classes of one name in label"),
    ([0, 1], NAMES, "no test images, as each class has a single one"),
])  # fmt: skip
def test_what_makes_no_set_is_refused(hf, tmp_path, labels, names, message):
    if names:
        write(hf, tmp_path / "train.parquet", labels, names)
    else:
        table = {"image": [picture(1)] * 2, "label": labels}
        features = hf.Features(image=hf.Image(), label=hf.Value("int64"))
        hf.Dataset.from_dict(table, features=features).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(UserError, match=message):
        load_dataset(f"hf:{tmp_path}")


def test_a_set_needs_images_and_a_split_for_training(hf, tmp_path):
    hf.Dataset.from_dict({"text": ["a"], "label": ["b"]}).to_parquet(tmp_path / "texts.parquet")
    with pytest.raises(UserError, match=r"no column of images \(text, label\)"):
        load_dataset("hf:texts.parquet", tmp_path)
    for split in ("test", "validation"):
        write(hf, tmp_path / f"untrained/{split}.parquet", [0, 1])
    with pytest.raises(UserError, match=r"splits \w+, \w+: call the one for training train"):
        load_dataset("hf:untrained", tmp_path)


def test_without_a_network_the_hub_cannot_be_reached(hf, monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hf.config, "HF_HUB_OFFLINE", True)
    message = r"hub, where user/birds would be, cannot be reached .*go online, or name a folder .*\(hf:PATH\)"
    with pytest.raises(UserError, match=message):
        load_dataset("hf:user/birds", tmp_path)
    assert not examine("hf:user/birds", None, tmp_path).found


@pytest.mark.parametrize("name, message", [
    ("hf:", "names no data set"),
    ("hf:./nowhere", "nowhere is not there: correct the path"),
    ("hf:nowhere.parquet", "is not there"),
])  # fmt: skip
def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(hf, tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        load_dataset(name, tmp_path)


def test_without_the_extra_its_name_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'pfedmoap\[hub\]'"):
        load_dataset("hf:user/birds")
    assert is_own("hf:user/birds") and not is_own("animals")
    assert known_dataset("hf:User/a-validation") == "hf:User/a-validation"


def test_a_run_is_stored_under_a_plain_name_and_refused_for_other_images(hf, tmp_path):
    write(hf, tmp_path / "us er/birds.parquet", [0, 1] * 10)
    name = "hf:us er/birds.parquet"
    experiment = Experiment(name, clients=2, partition="iid", shots=None, rounds=1, local_epochs=1, context_tokens=2)
    store, place = Store(tmp_path / "records"), Place(str(tmp_path), str(tmp_path / "cache"))
    record = run(experiment, place, store=store, progress=False)
    assert store.path(experiment).name == f"hf-us-er-birds.parquet-pfedmoap-s1-{experiment.key}.json"
    assert run(experiment, place, store=store, progress=False) == record
    assert [path.name[:23] for path in (tmp_path / "cache").iterdir()] == ["hf-us-er-birds.parquet-"]
    assert load_dataset(name, tmp_path).fingerprint == record["data"]["fingerprint"]
    assert "embedded_clip" in examine(name, tmp_path, tmp_path / "cache").cached[0]
    write(hf, tmp_path / "us er/birds.parquet", [1, 0] * 10)
    with pytest.raises(UserError, match="has this run for other images than those in hf:us er/birds.parquet"):
        run(experiment, place, store=store, progress=False)
