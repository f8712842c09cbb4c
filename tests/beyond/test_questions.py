"""Which part of a set each question keeps from training, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest

from pfedmoap.beyond import LOCAL, BaseNew, NewClients, Question, UnseenDomain, question
from pfedmoap.data import ImageSet, Split
from pfedmoap.errors import UserError
from pfedmoap.experiments import Experiment, dealt, load_dataset
from pfedmoap.methods import PFedMoAP


def small_set(train=(0, 1, 2, 3, 4, 0, 1, 2, 3, 4), test=(4, 3, 2, 1, 0), names=5, domains=()) -> ImageSet:
    parts = {}
    for part, labels in (("train", train), ("test", test)):
        where = np.arange(len(labels)) % len(domains) if domains else None
        parts[part] = Split([f"{part} {place}" for place in range(len(labels))], np.array(labels), where)
    return ImageSet("small", tuple("abcdefgh"[:names]), **parts, fingerprint="", source="", domain_names=domains)


def test_words_and_questions():
    asked = {LOCAL: Question(), "base_new": BaseNew(), "new_clients": NewClients(0.3),
             "new_clients:0.5": NewClients(0.5), "unseen_domain:sketch": UnseenDomain("sketch")}
    assert {text: question(text) for text in asked} == asked


@pytest.mark.parametrize("text, says", [
    ("base", "evaluate must be local, base_new"), ("base_new:2", "evaluate must be"), ("base_new:", "evaluate must"),
    ("local:", "evaluate must"), ("new_clients:", "> 0 and < 1"), ("unseen_domain", "NAME, not"),
    ("new_clients:1", "> 0 and < 1"), ("new_clients:many", "> 0 and < 1"), ("new_clients:0", "> 0 and < 1"),
])  # fmt: skip
def test_words_that_ask_nothing(text, says):
    with pytest.raises(UserError, match=says):
        Experiment(evaluate=text)


def test_of_five_classes_the_first_three_are_base():
    seen = BaseNew().seen(small_set())
    assert seen.imageset.class_names == ("a", "b", "c")
    assert seen.imageset.train.labels.tolist() == [0, 1, 2, 0, 1, 2] and seen.imageset.test.labels.tolist() == [2, 1, 0]
    assert seen.train.tolist() == [0, 1, 2, 5, 6, 7] and seen.test.tolist() == [2, 3, 4]
    assert [BaseNew.base(classes) for classes in (2, 3, 20, 101)] == [1, 2, 10, 51]


def test_shares_point_at_images_of_the_whole_set():
    whole = load_dataset("animals")
    shares = dealt(Experiment(dataset="animals", evaluate="base_new", clients=5, shots=4), whole)
    owned = np.concatenate(shares.train)
    assert len(owned) == 40 and whole.train.labels[owned].max() == 9
    for part in ("train", "test"):
        for own, labels in zip(getattr(shares, part), getattr(shares, f"{part}_labels"), strict=True):
            assert getattr(whole, part).labels[own].tolist() == labels.tolist()


@pytest.mark.parametrize("images, says", [
    (dict(names=1, train=(0, 0), test=(0,)), "has 1 class, and base_new needs"),
    (dict(test=(0, 1, 2)), "no test images of its new classes"),
    (dict(test=(3, 4)), "no test images of its base classes"),
    (dict(train=(3, 4)), "no training images of its base classes"),
])  # fmt: skip
def test_sets_without_base_or_new_classes(images, says):
    with pytest.raises(UserError, match=says):
        BaseNew().seen(small_set(**images))


def test_without_its_second_of_three_domains():
    seen = UnseenDomain("Photo").seen(small_set(domains=("clipart", "photo", "sketch")))
    assert seen.imageset.domain_names == ("clipart", "sketch")
    assert seen.train.tolist() == [0, 2, 3, 5, 6, 8, 9]
    assert seen.imageset.train.domains.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert seen.test.tolist() == [0, 2, 3] and seen.imageset.class_names == tuple("abcde")


@pytest.mark.parametrize("domains, says", [
    ((), "no domain 'photo' to leave out: choose a set with domains"),
    (("clipart", "sketch"), "choose one of clipart, sketch"), (("photo",), "no other domain to train on"),
])  # fmt: skip
def test_domains_that_cannot_be_left_out(domains, says):
    with pytest.raises(UserError, match=says):
        UnseenDomain("photo").seen(small_set(domains=domains))


def test_a_domain_without_test_images():
    images = small_set(domains=("clipart", "photo"))
    images = replace(images, test=replace(images.test, domains=np.zeros(5, dtype=np.int64)))
    with pytest.raises(UserError, match="no test images of photo"):
        UnseenDomain("photo").seen(images)


def test_newcomers_are_a_share_drawn_by_the_seed():
    asked = NewClients(0.3)
    for seed in (1, 2):
        trained, joining = asked.participants(10, seed), asked.newcomers(10, seed)
        assert len(joining) == 3 and sorted([*trained, *joining]) == list(range(10))
    assert asked.newcomers(10, 1).tolist() != asked.newcomers(10, 2).tolist()
    assert len(NewClients(0.05).newcomers(4, 1)) == 1  # at least one


def test_somebody_must_be_left_to_train():
    with pytest.raises(UserError, match="holds out 1 of 1 clients"):
        NewClients(0.9).participants(1, 1)


def test_only_under_the_papers_protocol_and_with_experts_for_everyone():
    from pfedmoap.released import RELEASED

    with pytest.raises(UserError, match="leave out protocol"):
        Experiment(evaluate="base_new", protocol=RELEASED)
    with pytest.raises(UserError, match="give one number for all"):
        Experiment(evaluate="new_clients", clients=3, method=PFedMoAP(experts=(1, 2, 1)))


def test_a_question_makes_another_run_and_none_leaves_the_key_as_it_was():
    keys = {Experiment(evaluate=text).key for text in (LOCAL, "base_new", "new_clients", "unseen_domain:photo")}
    for same in (("new_clients", "new_clients:.3", "new_clients:0.30"), ("unseen_domain:Photo", "unseen_domain:photo")):
        assert len({Experiment(evaluate=text).key for text in same}) == 1
    plain = Experiment().to_dict()
    del plain["evaluate"]
    assert len(keys) == 4 and Experiment.from_dict(plain).key in keys
