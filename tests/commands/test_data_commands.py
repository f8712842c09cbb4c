"""The commands about data."""

import json

import pytest
from layouts import write_classes
from PIL import Image

from pfedmoap import embedded
from pfedmoap.clip import load_clip
from pfedmoap.commands.app import main
from pfedmoap.data import ON_DISK, image_features
from pfedmoap.experiments import datasets, load_dataset
from pfedmoap.system import paths


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Calls `pfedmoap` with a cache of the test's own; returns exit code, standard output and error."""
    monkeypatch.setattr(paths, "cache_dir", lambda: tmp_path / "cache")

    def call(*arguments) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(list(map(str, arguments)))
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    return call


@pytest.fixture
def mine(tmp_path):
    write_classes(tmp_path / "mine", {"cat": 10, "dog": 10})
    return tmp_path / "mine"


def test_data_without_a_root_shows_what_is_embedded(call):
    code, out, err = call("data")
    assert code == 0
    assert all(name in out for name in embedded.NAMES) and "flowers102" not in out
    assert "--data-root DIR" in err


def test_data_with_a_root_says_what_to_fetch(call, tmp_path):
    code, out, _ = call("data", "--data-root", tmp_path)
    assert code == 0
    assert all(name in out for name in ON_DISK)
    assert "download 102flowers.tgz" in out and "62.17 %" in out
    assert "not there: eurosat, " in out and "EuroSAT was not found" not in out and "licence" not in out


def test_named_set_is_examined_and_shown(call, mine, tmp_path):
    arguments = ("--data-root", mine, "--show", tmp_path / "sheet.png", "--check")
    code, out, _ = call("data", "folders", *arguments)
    assert code == 0
    assert "recognised as <class>/*" in out and "files fine, all opened" in out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 100
    code, _, err = call("data", *arguments)
    assert (code, err) == (2, "error: A contact sheet shows one data set: give its name before --show.\n")


def test_what_a_run_would_choose_for_ones_own_pictures_is_told(call, mine, tmp_path):
    code, out, _ = call("data", "folders", "--data-root", mine)
    assert code == 0 and "a run has chosen: --partition dirichlet --clients 2 --shots none, as nobody owns" in out
    write_classes(tmp_path / "one", {"cat": 10})
    code, out, _ = call("data", "folders", "--data-root", tmp_path / "one")
    assert code == 1 and "problem: folders has fewer than 2 classes, too few for a federation: add some" in out
    assert "chosen" not in call("data", "digits")[1]


def test_card_is_shown_whether_the_set_is_there_or_not(call, tmp_path):
    code, out, _ = call("data", "imagenet_r")
    assert code == 1 and "imagenet_r: imagenet_r is read from disk" in out
    assert "card of ImageNet-R" in out and "200 classes, 30,000 test images" in out and "imagenet-rendition" in out
    code, out, _ = call("data", "imagenet", "--data-root", tmp_path)
    assert code == 1 and "29b22e2961454d5413ddabcf34fc5622 ILSVRC2012_img_val.tar" in out
    code, out, _ = call("data", "office")
    assert code == 0 and "10 classes, 4 domains, 720 training images, 520 test images" in out
    code, out, _ = call("data", "sun397", "--json")
    assert code == 1 and json.loads(out)[0]["card"]["test"] == 19850


def test_problems_are_told_and_end_with_1(call, mine):
    (mine / "cat" / "image_0001.jpg").write_bytes(b"oops")
    code, out, _ = call("data", "folders", "--data-root", mine, "--check")
    assert code == 1
    assert "1 problem" in out and "image_0001.jpg cannot be read as an image" in out
    code, out, _ = call("data", "caltech101", "--data-root", mine)
    assert code == 1 and "Caltech101 was not found" in out


def test_data_as_json_is_the_only_thing_on_standard_output(call, mine):
    code, out, _ = call("data", "folders", "--data-root", mine, "--json")
    (found,) = json.loads(out)
    assert code == 0 and found["classes"] == 2 and found["train"] + found["test"] == 20


def test_unknown_set_suggests_the_closest(call):
    assert call("data", "flowers") == (2, "", "error: There is no data set 'flowers'; did you mean 'flowers102'?\n")


def test_help_names_the_commands(call):
    code, out, _ = call("data", "--help")
    assert code == 0 and "examine" in out and "download" in out


def test_download_reports_where_the_set_is(call, monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "download", lambda name, root, progress: f"{root}/{name}, the official split")
    code, out, _ = call("data", "download", "cifar10", "dtd", "--data-root", tmp_path)
    assert code == 0
    assert out == f"cifar10: {tmp_path}/cifar10, the official split\ndtd: {tmp_path}/dtd, the official split\n"


def test_download_that_is_impossible_says_what_to_do(call, tmp_path):
    code, _, err = call("data", "download", "domainnet", "--data-root", tmp_path)
    assert code == 2 and "cannot be downloaded by a program" in err and "download the six zips" in err


def test_cache_is_listed_and_pruned(call, tmp_path, monkeypatch):
    for name in ("digits", "office"):
        image_features(load_clip(), load_dataset(name), "test", cache_dir=tmp_path / "cache", progress=False)
    code, out, _ = call("cache")
    assert code == 0 and "2 tables" in out and "digits" in out and "719" in out
    code, out, _ = call("cache", "--prune", "digits", "--yes", "--json")
    assert code == 0 and [table["dataset"] for table in json.loads(out)] == ["office"]
    assert call("cache", "--prune", "digits")[2].startswith("error: There are no features of 'digits'")

    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    assert "1 table," in call("cache", "--prune", "all")[1]
    monkeypatch.setattr("typer.confirm", lambda *_, **__: True)
    assert "0 tables," in call("cache", "--prune", "all")[1]
