"""Your own images: every layout is recognised, divided, and refused with the remedy when something is wrong."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from layouts import write_classes, write_image, write_images
from PIL import Image

from pfedmoap.data import folders, partition
from pfedmoap.errors import UserError
from pfedmoap.experiments import Place, Store, from_profile, load_dataset, run, run_all
from pfedmoap.methods import ZeroShot


def load(root):
    return load_dataset("folders", root)


def per_class(split) -> dict[int, int]:
    return Counter(split.labels.tolist())


def relative(split, root) -> list[str]:
    return [os.path.relpath(path, root) for path in split.images.paths]


def assert_class_is_folder(imageset):
    for split in (imageset.train, imageset.test):
        for label, path in zip(split.labels, split.images.paths, strict=True):
            assert imageset.class_names[label] == Path(path).parent.name.replace("_", " ")


def test_plain_classes_are_divided_70_to_30_always_alike(tmp_path):
    write_classes(tmp_path, {"sea_lion": 10, "cat": 20})
    imageset = load(tmp_path)
    assert imageset.class_names == ("cat", "sea lion")
    assert (per_class(imageset.train), per_class(imageset.test)) == ({0: 14, 1: 7}, {0: 6, 1: 3})
    assert imageset.source == (
        f"{tmp_path}, recognised as <class>/*: 2 classes, 70/30 % per class with a fixed seed"
    )
    assert imageset.domain_names == imageset.clients == ()
    assert_class_is_folder(imageset)
    again = load(tmp_path)
    assert again.train.images.paths == imageset.train.images.paths and again.fingerprint == imageset.fingerprint
    write_image(tmp_path / "cat" / "new.png")
    assert load(tmp_path).fingerprint != imageset.fingerprint


def test_train_and_test_folders_are_kept_apart(tmp_path):
    write_classes(tmp_path / "train", {"cat": 3, "dog": 4})
    write_classes(tmp_path / "test", {"cat": 2, "dog": 1})
    write_classes(tmp_path / "val", {"cat": 5})
    imageset = load(tmp_path)
    assert (per_class(imageset.train), per_class(imageset.test)) == ({0: 3, 1: 4}, {0: 2, 1: 1})
    assert imageset.source.endswith("recognised as {train,test}/<class>/*: 2 classes")


def test_a_class_may_be_called_train_or_clients(tmp_path):
    write_classes(tmp_path, {"train": 4, "clients": 4, "bus": 4})
    assert load(tmp_path).class_names == ("bus", "clients", "train")


def test_domains_can_be_shared_or_be_clients(tmp_path):
    for domain, counts in {"photo": {"cat": 10, "dog": 10}, "sketch": {"cat": 10, "owl": 10}}.items():
        write_classes(tmp_path / domain, counts)
    imageset = load(tmp_path)
    assert imageset.domain_names == ("photo", "sketch")
    assert imageset.class_names == ("cat", "dog", "owl")
    assert "recognised as <domain>/<class>/*: 3 classes, 2 domains, 70/30" in imageset.source
    assert [relative(imageset.train, tmp_path)[i].split("/")[0] for i in (0, -1)] == ["photo", "sketch"]
    assert_class_is_folder(imageset)
    shares = partition(imageset, "by_domain", clients=2, seed=1)
    assert [len(own) for own in shares.train] == [14, 14]
    assert {int(imageset.train.domains[i]) for i in shares.train[1]} == {1}


def test_clients_folders_are_the_given_partition(tmp_path):
    for client in ("client2", "client10"):
        write_classes(tmp_path / "clients" / client / "train", {"cat": 3, "dog": 2})
        write_classes(tmp_path / "clients" / client / "test", {"cat": 2})
    (tmp_path / "clients" / "client2" / "test" / "dog").mkdir()  # it has none of these: no error
    imageset = load(tmp_path)
    assert imageset.clients == ("client2", "client10")  # in natural order
    assert imageset.source.endswith(
        "recognised as clients/<client>/{train,test}/<class>/*: 2 classes, 2 clients (partition: given)"
    )
    shares = partition(imageset, "given", clients=2, seed=1)
    for client, (train, test) in enumerate(zip(shares.train, shares.test, strict=True)):
        assert (len(train), len(test)) == (5, 2)
        owners = {relative(imageset.train, tmp_path)[i].split("/")[1] for i in train}
        assert owners == {imageset.clients[client]}


def test_clients_without_test_folders_are_divided_one_by_one(tmp_path):
    write_classes(tmp_path / "clients" / "a", {"cat": 10, "dog": 1})
    write_classes(tmp_path / "clients" / "b", {"cat": 10})
    imageset = load(tmp_path)
    shares = partition(imageset, "given", clients=2, seed=1)
    assert [len(own) for own in shares.train] == [8, 7] and [len(own) for own in shares.test] == [3, 3]


CSV = "path,label,client,split\nx/1.png,cat,north,train\nx/2.png,dog,north,test\nx/3.png,dog,south,train\n"


@pytest.mark.parametrize("text", [CSV, CSV.replace(",", ";"), "\ufeff" + CSV.replace("\n", "\r\n")])
def test_csv(tmp_path, text):
    write_images(tmp_path / "x", ["1.png", "2.png", "3.png", "4.png"])
    (tmp_path / "mine.csv").write_text(text)
    imageset = load(tmp_path / "mine.csv")
    assert imageset.class_names == ("cat", "dog") and imageset.clients == ("north", "south")
    assert relative(imageset.train, tmp_path) == ["x/1.png", "x/3.png"]
    assert imageset.train.clients.tolist() == [0, 1] and imageset.test.labels.tolist() == [1]
    assert imageset.source == f"{tmp_path}/mine.csv, a CSV file: 2 classes, 2 clients (partition: given)"


def test_csv_without_split_is_divided(tmp_path):
    write_images(tmp_path, [f"{i}.png" for i in range(20)])
    lines = [f'{i}.png,"{"cat, small" if i % 2 else "dog"}"' for i in range(20)]
    (tmp_path / "mine.csv").write_text("\n".join(["path,label", *lines]))
    imageset = load(tmp_path / "mine.csv")
    assert imageset.class_names == ("cat, small", "dog")
    assert (len(imageset.train), len(imageset.test)) == (14, 6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n1.png,a\n", r"should have the columns path,label .* \(see 'file'\)"),
        ("path\n1.png\n", r"should have the columns path,label .* \(see 'label'\)"),
        ("path,label\n1.png\n", "line 2 of .*mine.csv should have a value for each of path,label: complete it"),
        ("path,label\n1.png,a,b\n", "line 2 of .* should have a value for each of path,label"),
        ("path,label\n1.png,a\n1.png,b\n", "line 3 of .* lists 1.png for the second time"),
        ("path,label,split\n1.png,a,dev\n", "line 2 of .* has the split 'dev': write train or test"),
        ("path,label\n../1.png,a\n", r"points outside the file's folder \(../1.png\)"),
        ("path,label\n7.png,a\n", "line 2 of .* names 7.png, which is not there"),
        ("path,label\n", "has no train images"),
        ("path,label,split\n1.png,a,test\n", "the class 'a' .* has test images but no training images"),
        (b"path,label\n1.png,caf\xe9\n", "is no text in UTF-8"),
        ("path,label\n1.png,a\n2.png," + "b" * 200_000, "line 3 of .* cannot be read .*field larger than field limit"),
        ("path,label\n1.png,a\x1b[2J\n", r"class, client or domain in line 2 of .* cannot be read as text .*x1b"),
        ("path,label\n1\x00.png,a\n", "cannot be read"),
    ],
)
def test_wrong_csv_is_refused_by_line(tmp_path, text, message):
    write_images(tmp_path, ["1.png", "2.png"])
    (tmp_path / "mine.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        load(tmp_path / "mine.csv")


def test_odd_names_are_survived(tmp_path):
    files = ["a b.PNG", "ünï, 1;.png", "new\nline.png", "-rf.png", "\udcff\udcfe.png", "%s {x}.png", "50%.jpeg"]
    write_images(tmp_path / "cat", files)
    write_images(tmp_path / "dog's [best]", files)
    for name in (".hidden.png", "._cat.png", "Thumbs.db", "notes.txt"):
        (tmp_path / "cat" / name).touch()
    imageset = load(tmp_path)
    assert imageset.class_names == ("cat", "dog's [best]")
    names = {os.path.basename(path) for split in (imageset.train, imageset.test) for path in split.images.paths}
    assert names == set(files)
    assert all(imageset.train.images[i].size == (8, 8) for i in range(len(imageset.train)))


def test_class_folders_may_have_spaces_commas_and_accents(tmp_path):
    names = ("cat, small", "sea lion", "old_red_car", "\u7345\u5b50", "caf\u00e9")
    write_classes(tmp_path, dict.fromkeys(names, 3))
    assert set(load(tmp_path).class_names) == {name.replace("_", " ") for name in names}


def test_accents_that_are_stored_in_two_ways_are_the_same_class(tmp_path):
    write_classes(tmp_path / "train", {"cafe\u0301": 3, "tea": 3})
    write_classes(tmp_path / "test", {"caf\u00e9": 2, "tea": 2})
    imageset = load(tmp_path)
    assert imageset.class_names == ("caf\u00e9", "tea")
    assert (per_class(imageset.train), per_class(imageset.test)) == ({0: 3, 1: 3}, {0: 2, 1: 2})
    write_classes(tmp_path / "test", {"cafe\u0301": 2})
    with pytest.raises(UserError, match="two folders in .*test are called 'caf\u00e9'.* stored in two ways: merge"):
        load(tmp_path)


@pytest.mark.parametrize(("names", "message"), [
    (("Cat", "cat"), "the classes 'Cat' and 'cat' in .* differ only in case, which CLIP does not see: merge them, or"),
    (("sea_lion", "Sea lion"), "'Sea lion' and 'sea_lion' in .* differ only in underscores, spaces or case"),
    (("cat", "_"), "a class in .* is called '_', which is no word"),
])
def test_classes_that_clip_could_not_tell_apart_are_refused(tmp_path, names, message):
    write_classes(tmp_path, dict.fromkeys(names, 3))
    if len(os.listdir(tmp_path)) < len(names):
        pytest.skip("this disk does not tell case apart")
    with pytest.raises(UserError, match=message):
        load(tmp_path)


def test_a_division_in_capitals_is_not_taken_for_domains(tmp_path):
    write_classes(tmp_path / "Train", {"cat": 3})
    write_classes(tmp_path / "Test", {"cat": 3})
    with pytest.raises(UserError, match="Test looks like a part of a division: call it test"):
        load(tmp_path)


def test_photographs_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(2):
        (tmp_path / "cat").mkdir(exist_ok=True)
        Image.new("RGB", (8, 4)).save(tmp_path / "cat" / f"{number}.jpg", exif=exif)
    assert load(tmp_path).train.images[0].size == (4, 8)


def test_folder_name_that_is_no_text_is_refused(tmp_path):
    write_images(tmp_path / "caf\udce9", ["1.png", "2.png"])
    with pytest.raises(UserError, match=r"the folder 'caf\\udce9' in .* cannot be read as text: rename it"):
        load(tmp_path)


def test_symlink_loops_are_survived_and_links_to_images_followed(tmp_path):
    write_classes(tmp_path / "set", {"cat": 3, "dog": 3})
    write_image(tmp_path / "elsewhere" / "4.png")
    for link, target in {"cat/up": "..", "cat/self.png": "self.png", "loop": "loop", "here": ".", "root": "/"}.items():
        (tmp_path / "set" / link).symlink_to(target)
    (tmp_path / "set" / "cat" / "4.png").symlink_to(tmp_path / "elsewhere" / "4.png")
    (tmp_path / "set" / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    imageset = load(tmp_path / "set")
    assert imageset.class_names == ("cat", "dog")
    assert len(imageset.train) + len(imageset.test) == 7


def test_empty_class_folders_are_named(tmp_path):
    write_classes(tmp_path, {"cat": 3})
    (tmp_path / "dog").mkdir()
    (tmp_path / "owl").mkdir()
    (tmp_path / "owl" / "1.heic").touch()
    with pytest.raises(UserError, match=r"2 class folders under .* have no images \(dog/, owl/\): fill or remove them"):
        load(tmp_path)


def test_what_is_no_layout_is_refused_with_those_that_are(tmp_path):
    with pytest.raises(UserError, match="has no images in a layout that is known: arrange them as clients/<client>"):
        load(tmp_path)
    write_classes(tmp_path, {"cat": 3, "photo/dog": 2})
    with pytest.raises(UserError, match="has images in cat and folders in photo: use one layout"):
        load(tmp_path)


def test_half_a_division_is_refused(tmp_path):
    write_classes(tmp_path / "train", {"cat": 3})
    with pytest.raises(UserError, match=r"should have the folders train and test and no others \(see test\)"):
        load(tmp_path)
    write_classes(tmp_path / "test", {"cat": 3, "dog": 1})
    with pytest.raises(UserError, match="the class 'dog' .* has test images but no training images: add some"):
        load(tmp_path)


def test_missing_root_names_the_option(tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="folders is read from disk: say which folder holds it"):
        load_dataset("folders")


def test_division_ignores_the_other_classes():
    rows = [folders.Row(f"{name}/{i}.png", name) for name in ("a", "b") for i in range(10)]
    alone, together = folders.divided(rows[:10]), folders.divided(rows)
    for own, both in zip(alone, together, strict=True):
        assert own == [row for row in both if row.label == "a"]
    assert np.array_equal([len(part) for part in together], [14, 6])


def test_clients_folders_run_and_a_record_of_other_images_is_refused(tmp_path):
    for client in ("a", "b"):
        write_classes(tmp_path / "mine" / "clients" / client, {"cat": 6, "dog": 6})
    one = from_profile("folders", ZeroShot(), "smoke", partition="given", clients=2, shots=None, rounds=1)
    place, store = Place(str(tmp_path / "mine"), str(tmp_path / "cache")), Store(tmp_path / "records")
    record = run(one, place, store=store, progress=False)
    assert "2 clients (partition: given)" in record["data"]["source"]
    assert record["data"]["train_images"] == [8, 8] and record["data"]["test_images"] == [4, 4]
    assert run(one, place, store=store, progress=False) == record
    write_image(tmp_path / "mine" / "clients" / "a" / "cat" / "new.png")
    for again in (lambda: run(one, place, store=store), lambda: run_all([one], place, store=store, jobs=1)):
        with pytest.raises(UserError, match="has this run for other images than those in .*mine: choose another"):
            again()
    store.drop(one)
    assert run(one, place, store=store, progress=False)["data"]["fingerprint"] != record["data"]["fingerprint"]
