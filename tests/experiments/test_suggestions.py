"""What your own pictures suggest runs as it is; and a CLIP that does not know them is told."""

import pytest
from layouts import write_classes

from pfedmoap.embedded import write_example
from pfedmoap.errors import UserError
from pfedmoap.experiments import (
    Experiment,
    Place,
    chosen_in_words,
    from_profile,
    load_dataset,
    poor_match,
    run,
    suggested_settings,
)
from pfedmoap.methods import PFedMoAP

SEVEN = dict.fromkeys(("cat", "dog", "owl", "bus", "car", "tea", "cup"), 5)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> str:
    """Drawings that the embedded CLIP knows, owned by four clients."""
    root = tmp_path_factory.mktemp("example")
    write_example(root)
    return str(root)


def test_settings_by_layout(tmp_path, example):
    write_classes(tmp_path / "classes", SEVEN)
    for domain in ("photo", "sketch"):
        write_classes(tmp_path / "domains" / domain, SEVEN)
    write_classes(tmp_path / "few", {"cat": 5, "dog": 5})
    found = {name: suggested_settings(load_dataset("folders", root)) for name, root in {
        "classes": tmp_path / "classes", "domains": tmp_path / "domains", "few": tmp_path / "few", "given": example,
    }.items()}  # fmt: skip
    assert found == {
        "classes": {"partition": "label_disjoint", "clients": 3},
        "domains": {"partition": "by_domain", "clients": 2, "shots": None},
        "few": {"partition": "dirichlet", "clients": 2, "shots": None},
        "given": {"partition": "given", "clients": 4, "shots": None},
    }


def test_what_is_given_stays_and_the_rest_fits(tmp_path):
    write_classes(tmp_path, SEVEN)
    imageset = load_dataset("folders", tmp_path)
    assert suggested_settings(imageset, {"clients": 2}) == {"partition": "label_disjoint"}
    assert suggested_settings(imageset, {"clients": 5, "shots": 3}) == {"partition": "dirichlet"}
    assert suggested_settings(imageset, {"partition": "label_disjoint", "clients": 7, "rounds": 1}) == {}
    assert suggested_settings(imageset, {"evaluate": "base_new"})["clients"] == 2  # of four base classes two each


def test_other_sets_keep_their_profiles():
    assert suggested_settings(load_dataset("domains")) == {}


def test_in_words(tmp_path):
    write_classes(tmp_path, SEVEN)
    imageset = load_dataset("folders", tmp_path)
    assert chosen_in_words(imageset, suggested_settings(imageset)) == (
        "chosen: --partition label_disjoint --clients 3, as nobody owns the pictures, which have 7 classes "
        "(to choose otherwise: --partition, --clients)"
    )
    assert chosen_in_words(imageset, {"shots": None}).startswith("chosen: --shots none, as ")


def test_the_record_of_a_suggested_run_is_complete(example, cache):
    imageset = load_dataset("folders", example)
    one = from_profile("folders", PFedMoAP(), "smoke", suggested_settings(imageset), rounds=1)
    assert (one.partition, one.clients, one.shots) == ("given", 4, None)
    record = run(one, Place(example, cache), progress=False)
    assert Experiment.from_dict(record["experiment"]) == one
    assert sum(record["data"]["train_images"]) == len(imageset.train)


def test_a_clip_that_does_not_know_the_pictures_is_told(tmp_path, cache, example):
    known = from_profile("folders", PFedMoAP(), "smoke", partition="given", clients=4)
    assert poor_match(known, Place(example, cache)) is None
    write_classes(tmp_path, SEVEN)  # all of one colour
    unknown = from_profile("folders", PFedMoAP(), "smoke", clients=2)
    assert poor_match(unknown, Place(str(tmp_path), cache)) == (
        "embedded_clip hardly knows these pictures: untrained (ZS-CLIP) it is right on 14.3 % of 7 test images, which "
        "cannot be told from guessing (14.3 %): use a CLIP that was trained on such pictures (--model "
        "ViT-B-32-quickgelu --weights openai, or --weights FILE)"
    )
    with pytest.raises(UserError, match="7 classes cannot be dealt to 8 clients"):
        poor_match(from_profile("folders", PFedMoAP(), "smoke", clients=8), Place(str(tmp_path), cache))


def test_embedded_sets_are_not_looked_at(monkeypatch):
    monkeypatch.setattr("pfedmoap.experiments.suggestions.image_features", None)
    assert poor_match(from_profile("texshape", PFedMoAP(), "smoke")) is None
