"""WordNet's files, and where names are placed."""

import numpy as np
import pytest
from miniature import write_wordnet

from pfedmoap.embedded import concepts
from pfedmoap.embedded.wordnet import FOLDER, WordNet
from pfedmoap.errors import UserError

ROBIN, HERON, BIRD, WADER = "n00000111", "n00000112", "n00000110", "n00000113"
FORKLIFT, LIFTER, IDEA = "n00000122", "n00000121", "n00000130"


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory):
    return WordNet(write_wordnet(tmp_path_factory.mktemp("wordnet")))


def test_the_files_are_read(wordnet):
    assert len(wordnet.synsets) == 12
    crane = wordnet.synsets[WADER]
    assert crane.names == ("crane",) and crane.hypernyms == (BIRD,)
    assert crane.gloss == "a large wading bird with long legs and neck"  # without the example
    assert wordnet.senses["crane"] == (LIFTER, WADER)
    assert wordnet.ancestors(WADER) == {WADER, BIRD, "n00000100", "n00001930", "n00000001"}
    assert IDEA not in wordnet.physical and WADER in wordnet.physical
    assert wordnet.everyday_names(ROBIN) == ["robin"]
    assert wordnet.counts["robin"] == 7 and wordnet.counts["heron"] == 0  # a verb's count is none of a noun's
    assert wordnet.kinds((ROBIN, FORKLIFT))["n00001930"] == [0, 1]


@pytest.mark.parametrize("one, many", [("robin", "robins"), ("bus", "buses"), ("wild cherry", "wild cherries"),
                                       ("boy", "boys"), ("computer mouse", "computer mice"), ("finch", "finches")])
def test_plurals(wordnet, one, many):
    assert wordnet.plural(one) == many


def test_a_missing_wordnet_is_named_with_the_remedy(tmp_path):
    with pytest.raises(UserError, match="data.noun is missing: install it .*wordnet-base.*--wordnet"):
        WordNet(tmp_path)


@pytest.mark.skipif(not (FOLDER / "data.noun").exists(), reason="needs WordNet (Debian's wordnet-base)")
def test_the_real_wordnet_has_all_imagenet_classes():
    from timm.data import ImageNetInfo

    wordnet, ids = WordNet(), ImageNetInfo().label_names()
    assert len(wordnet.synsets) == 82_115 and set(ids) <= wordnet.synsets.keys()
    assert len(set(ids) - set(wordnet.physical)) == 3  # a bubble, a traffic light and a street sign
    assert wordnet.synsets["n02342885"].names[0] == "hamster" and wordnet.plural("ox") == "oxen"


def test_likeness_is_two_with_oneself_and_less_with_strangers(wordnet):
    kernel, ids = concepts.Kernel(wordnet), [ROBIN, HERON, WADER, LIFTER, FORKLIFT]
    likeness = kernel(ids, ids)
    np.testing.assert_allclose(np.diag(likeness), 2, rtol=1e-6)
    np.testing.assert_allclose(likeness, likeness.T, rtol=1e-6)
    assert likeness[2, 1] > likeness[2, 0] > likeness[2, 4]  # the wader: heron (shared words), robin, forklift
    assert likeness[3, 4] > likeness[3, 1]


def test_the_joint_space_tells_rows_apart_as_the_rows_do():
    rows = np.random.default_rng(0).standard_normal((30, 8)) * [9, 5, 3, 2, 1, 0.1, 0.1, 0.1] + 4
    projection, places = concepts.joint_space(rows, 5)
    assert projection.shape == (8, 5) and places.shape == (30, 5)
    np.testing.assert_allclose(np.linalg.norm(places, axis=1), 1)
    centred = rows - rows.mean(0)
    values = np.linalg.svd(centred, compute_uv=False)[:5]
    np.testing.assert_allclose(np.linalg.norm(centred @ projection, axis=0), values**0.5)  # halfway to whitening


def test_regression_agrees_with_scikit_learn(wordnet):
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import PairwiseKernel

    kernel, known, asked = concepts.Kernel(wordnet), [ROBIN, HERON, FORKLIFT], [WADER, LIFTER]
    places = concepts.normalize(np.random.default_rng(0).standard_normal((3, 4)))
    found, explained = concepts.place(kernel, asked, known, places)
    both = kernel([*known, *asked], [*known, *asked])  # the words' rarity depends on all that are asked for
    cross, gram = kernel(asked, known), kernel(known, known)
    table = np.block([[gram, cross.T], [cross, both[3:, 3:]]])
    lookup = PairwiseKernel(metric=lambda a, b, **_: table[int(a[0]), int(b[0])], gamma_bounds="fixed")
    process = GaussianProcessRegressor(lookup, alpha=concepts.NOISE, optimizer=None)
    process.fit(np.arange(3.0)[:, None], places)
    mean, deviation = process.predict(np.array([[3.0], [4.0]]), return_std=True)
    np.testing.assert_allclose(found, concepts.normalize(mean), atol=1e-6)
    np.testing.assert_allclose(2 - 2 * explained, deviation[:, 0] ** 2, atol=1e-6)


def test_names_stand_where_their_senses_do(wordnet):
    known, places = (ROBIN, HERON, FORKLIFT), np.eye(3, 4)
    names = concepts.named_places(concepts.Kernel(wordnet), known, places)
    at = {name: names.targets[place] for place, name in enumerate(names.names)}
    assert "turdus migratorius" not in at and "idea" not in at
    np.testing.assert_allclose(at["robin"], [1, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(at["bird"], concepts.normalize([[1, 1, 0, 0]])[0], atol=1e-6)  # the mean of its kinds
    assert at["crane"][1] > at["crane"][0] and at["crane"][2] > at["crane"][0]  # between both of its senses
    crane = names.names.index("crane")
    of_crane = {kind: names.targets[len(names.names) + k] for k, kind in enumerate(names.sense_kinds)
                if names.sense_names[k] == crane}
    assert set(of_crane) == {"bird", "machine"}
    assert of_crane["bird"] @ places[1] > of_crane["bird"] @ places[2]
    assert of_crane["machine"] @ places[2] > of_crane["machine"] @ places[1]
    weights = dict(zip(names.names, names.weights, strict=True))
    assert weights["robin"] == pytest.approx(4 * weights["heron"])  # log2(1 + 7) more


def test_left_out_classes_are_judged_by_what_is_nearest(wordnet):
    known = (ROBIN, HERON, WADER, LIFTER, FORKLIFT, "n00000123")
    birds, machines = np.tile([[1.0, 0.0]], (3, 1)), np.tile([[0.0, 1.0]], (3, 1))
    shifts = np.random.default_rng(0).standard_normal((6, 2)) * 0.01
    places = np.concatenate([birds, machines]) + shifts
    accuracy = concepts.held_out_accuracy(concepts.Kernel(wordnet), known, places, folds=6)
    assert accuracy == 1  # alone in its fold, each is the nearest
