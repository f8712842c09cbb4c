"""The teaching notebook's numbers are those of the method, and its figures show them."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tiny import NAMES

from pfedmoap import experiments, gating
from pfedmoap.data import partition
from pfedmoap.errors import UserError
from pfedmoap.evaluation import evaluate
from pfedmoap.experiments import Place, Prepared, prepare
from pfedmoap.methods import CoOp, PFedMoAP, ZeroShot, ZeroShotOwnClasses
from pfedmoap.prompts import initial_prompt
from pfedmoap.reports import figures as draw
from pfedmoap.server import Pool
from pfedmoap.shared_prefix import SharedPrefix
from pfedmoap.teaching import Mixing, figures, gate, steps
from pfedmoap.teaching.mixing import Sliders


def finish(method, place: Place) -> Prepared:
    prepared = prepare(experiments.from_profile("nature", method, "smoke"), place)
    list(prepared.federation.rounds())
    return prepared


@pytest.fixture(scope="module")
def place(features_cache) -> Place:
    return Place(cache=features_cache)


@pytest.fixture(scope="module")
def prepared(place) -> Prepared:
    return finish(PFedMoAP(), place)


@pytest.fixture(scope="module")
def alone(place) -> Prepared:
    return finish(CoOp(), place)


@pytest.fixture(scope="module")
def mixing(prepared) -> Mixing:
    return Mixing(prepared)


def pool_of(*places: tuple[float, float]) -> Pool:
    return Pool({client: torch.tensor([place]) for client, place in enumerate(places)})


def assert_drawn(figure) -> None:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=60)
    with Image.open(content) as image:
        assert np.asarray(image.convert("L")).std() > 5
    assert plt.get_fignums() == []


# --- prompts


def test_a_sentence_has_the_learned_tokens_in_place_of_words(tiny_clip):
    table = steps.sentence(tiny_clip, "sea lion", 3)
    assert table["token"].tolist() == ["<start_of_text>", "p_1", "p_2", "p_3", "sea", "lion", ".", "<end_of_text>"]
    assert table.index[table["vector"] == "learned"].tolist() == [1, 2, 3]


def test_the_slow_encoder_is_open_clips_and_the_fast_one_equals_it(tiny_clip):
    words = tiny_clip.tokenizer(["a photo of a"])[0, 1:5]
    prompt = tiny_clip.model.token_embedding(words)  # (4, e), as if the words had been learned
    tokens = tiny_clip.tokenizer([f"a photo of a {name}." for name in NAMES], context_length=40)
    sentences = tiny_clip.model.encode_text(tokens, normalize=True)
    assert torch.allclose(steps.encode_in_full(tiny_clip, NAMES, prompt), sentences, atol=1e-6)
    table = steps.compare_encoders(tiny_clip, NAMES, prompt)
    assert table["features differ by"].max() < 1e-5 and table["gradients differ by"].max() < 1e-4
    suffixes = [tiny_clip.tokenizer([f"{name}."])[0].count_nonzero().item() - 1 for name in NAMES]
    assert table["tokens"].tolist() == [len(NAMES) * 40, 1 + 4 + sum(suffixes)]


def test_the_comparison_sees_a_wrong_encoder(tiny_clip, monkeypatch):
    monkeypatch.setattr(SharedPrefix, "_mlp", lambda self, x, block: torch.zeros_like(x))
    table = steps.compare_encoders(tiny_clip, NAMES, initial_prompt(4, tiny_clip.token_width, 1))
    assert table["features differ by"].max() > 1e-3


# --- averages


def test_updates_are_compared_from_the_start():
    start = torch.ones(1, 2)
    prompts = start + torch.tensor([[[2.0, 0]], [[0, 3]], [[-1, 0]]])  # (3, 1, 2)
    expected = torch.tensor([[1.0, 0, -1], [0, 1, 0], [-1, 0, 1]])
    assert torch.allclose(steps.update_cosines(prompts, start), expected)


def test_own_prompts_are_tested_as_in_the_federation(alone):
    own = steps.own_prompts(alone)
    tested = 100 * np.array(alone.federation.history[-1].accuracies)
    assert steps.evaluate_prompts(alone, own)["accuracy"].to_numpy() == pytest.approx(tested)
    average = steps.average(alone, own)
    sizes = [len(rows) for rows in alone.federation.data.train_rows]
    assert torch.allclose(average, torch.einsum("n,nme->me", torch.tensor(sizes) / sum(sizes), own), atol=1e-6)
    line = steps.along_the_line(alone, own, average, points=3)
    assert line["share"].unique().tolist() == [0, 0.5, 1]
    ends = [steps.evaluate_prompts(alone, prompts)["loss"] for prompts in (average.expand_as(own), own)]
    for share, expected in zip((0, 1), ends, strict=True):
        assert line[line["share"] == share]["loss"].to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-5)


# --- the pool


def test_a_map_of_points_in_a_plane_keeps_all_distances():
    pool = pool_of((0, 0), (3, 0), (0, 4), (5, 5))
    clients, distances = steps.pool_distances(pool)
    assert clients == [0, 1, 2, 3] and distances[1, 2] == pytest.approx(5)
    points, kept = steps.flatten_to_plane(distances)
    again = np.linalg.norm(points[:, None] - points, axis=-1)
    assert again == pytest.approx(distances, abs=1e-5) and kept == pytest.approx(1)


def test_a_map_of_a_tetrahedron_says_what_is_lost():
    points, kept = steps.flatten_to_plane(1 - np.eye(4))
    assert points.shape == (4, 2) and kept == pytest.approx(2 / 3)


@pytest.mark.parametrize("count", [1, 2])
def test_equal_and_few_prompts_have_a_map(count):
    points, kept = steps.flatten_to_plane(np.zeros((count, count)))
    assert points.shape == (count, 2) and not points.any() and kept == 1


def test_arrows_run_from_the_pools_nearest():
    pool = pool_of((0, 0), (1, 0), (3, 0), (7, 0))
    assert steps.lending(pool, 1) == [(1, 0), (0, 1), (1, 2), (2, 3)]
    figure = figures.pool_map(pool, lenders=2)
    arrows = {text.get_gid() for text in figure.axes[1].texts if text.get_gid()}
    assert arrows == {f"{lender}->{client}" for client in range(4) for lender in pool.nearest(client, 2)}
    assert_drawn(figure)


# --- the gate


def test_attention_is_the_gates(prepared):
    images, _ = steps.own_tests(prepared, 3)
    weights = gate.attention(prepared, 3, images[:5])  # (5, C, heads, J)
    assert weights.dtype == torch.float64 and torch.allclose(weights.sum(-1), torch.ones(()).double())
    personal, context = gate.personal_model(prepared, 3), prepared.federation.context
    assert personal.lenders == prepared.federation.server.pool.nearest(3, 9)
    inputs = personal.method.gate_inputs(personal.fixed, images[None, :5], context.text(personal.model["prompt"]))
    assert torch.allclose(gating.attend(personal.model, **inputs)[1][0].double(), weights, atol=1e-6)
    _, diagnosed = personal.method.examine(personal.model, personal.fixed, images[None, :5], context)
    assert gate.entropy(weights).numpy() == pytest.approx(diagnosed["attention_entropy"][0].numpy(), abs=1e-5)


def test_entropy_is_one_for_an_even_choice_and_zero_for_a_single_one():
    weights = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0, 1, 0, 0]]).double()[:, None, None]  # (2, 1, 1, 4)
    assert gate.entropy(weights).tolist() == pytest.approx([1, 0])


def test_experts_further_apart_and_larger_scores_make_the_gate_choose(prepared):
    table = gate.entropy_by_spread(prepared, 0, (1, 100), (10, 10000)).set_index(["factor", "scale"])["entropy"]
    images, _ = steps.own_tests(prepared, 0)
    assert table[1, 10] == pytest.approx(gate.entropy(gate.attention(prepared, 0, images)).mean().item())
    assert 1 >= table[1, 10] > table[100, 10] > table[100, 10000] and table[1, 10] > table[1, 10000]


def test_three_biases_have_no_gradient_and_the_others_have(prepared):
    norms = gate.gradients(prepared, 0)
    ignored = norms[["key.bias", "value.bias", "output.bias"]]
    assert len(norms) == 8 and ignored.max() < 1e-12 * norms.max()
    assert norms.drop(ignored.index).min() > 1e6 * norms["key.bias"]


def test_a_client_without_a_gate_is_refused_by_name(place):
    fresh = prepare(experiments.from_profile("nature", PFedMoAP(), "smoke"), place)
    fresh.federation.run_round()
    with pytest.raises(UserError, match="Client 2 has no trained gate"):
        gate.attention(fresh, 2, steps.own_tests(fresh, 2)[0])
    without_gates = Mixing(fresh)
    assert (without_gates.accuracies(0, 9) == without_gates.accuracies(5, 0)).all()


# --- mixing


@pytest.mark.parametrize(("lam", "experts"), [(0.5, 9), (0.0, 9), (2.0, 3), (0.5, 0)])
def test_mixing_tests_as_the_federation_does(prepared, mixing, lam, experts):
    federation = prepared.federation
    tests = evaluate(PFedMoAP(lam=lam, experts=experts), federation.server, federation.personal, federation.data,
                     federation.context)
    assert mixing.accuracies(lam, experts) == pytest.approx(100 * np.array(tests.accuracies))


def test_mixing_starts_from_the_runs_own_setting(prepared, mixing):
    assert (mixing.lam, mixing.experts, mixing.most_experts) == (0.5, 9, 9)
    assert mixing.accuracies(mixing.lam, mixing.experts).mean() == pytest.approx(
        100 * prepared.federation.history[-1].accuracy)
    sweep = mixing.sweep((0, 0.5), (0, 9))
    assert sweep.loc[0.5, 9] == pytest.approx(100 * prepared.federation.history[-1].accuracy)


def test_what_is_gained_begins_with_the_untrained_controls(mixing, place):
    table = mixing.own_classes()
    for column, method in (("accuracy", ZeroShot()), ("accuracy among own classes", ZeroShotOwnClasses())):
        expected = 100 * finish(method, place).federation.history[-1].accuracy
        assert table.loc["hand-written prompt", column] == pytest.approx(expected)
    assert (table["accuracy"] <= table["answers among own classes"]).all()
    assert (table["accuracy"] <= table["accuracy among own classes"]).all()


def test_sliders_redraw(mixing):
    sliders = Sliders(mixing)
    pictures = [bytes(sliders.picture.value)]
    for slider, value in ((sliders.lam, 2.0), (sliders.experts, 1), (sliders.client, 4), (sliders.image, 7)):
        slider.value = value
        pictures.append(bytes(sliders.picture.value))
    assert len(set(pictures)) == 5 and all(picture.startswith(b"\x89PNG") for picture in pictures)
    for slider, value in ((sliders.image, 0), (sliders.client, 0), (sliders.experts, 9), (sliders.lam, 0.5)):
        slider.value = value
    assert sliders.picture.value == pictures[0]


# --- what travels


def test_traffic_is_the_federations(prepared):
    table, last = steps.traffic(prepared, 0), prepared.federation.history[-1]
    by_place = table.groupby("where")["bytes"].sum()
    assert by_place["received"] == last.bytes_down[0] and by_place["sent"] == last.bytes_up[0]
    assert table.loc["gate", "bytes"] == 4 * 66_048 and table.loc["gate", "where"] == "stays"


# --- pictures


def test_all_figures_are_drawn(prepared, alone, mixing):
    imageset, context = prepared.imageset, prepared.federation.context
    deals = {protocol: partition(imageset, protocol, clients=10, seed=1) for protocol in ("iid", "label_disjoint")}
    texts = {"a": context.handwritten, "b": steps.text_features(prepared, context.initial_prompt)}
    own = steps.own_prompts(alone)
    line = steps.along_the_line(alone, own, steps.average(alone, own), points=3)
    for figure in (
        figures.heterogeneity(imageset, deals),
        figures.guesses(prepared, 0, texts),
        figures.averaging(steps.update_cosines(own, context.initial_prompt), line),
        figures.attention_on_images(prepared, 0),
        figures.entropies(gate.entropy_by_spread(prepared, 0, (1, 10), (10, 100)), own_scale=10),
        figures.gradients(gate.gradients(prepared, 0)),
        figures.traffic(steps.traffic(prepared, 0)),
        mixing.draw(0.5, 9),
        mixing.curves((0, 0.5), (0, 9)),
    ):
        assert_drawn(figure)


def test_heat_maps_count_training_images(prepared):
    imageset = prepared.imageset
    deal = partition(imageset, "label_disjoint", clients=10, seed=1, shots=4)
    axes = figures.heterogeneity(imageset, {"disjoint": deal}).axes[0]
    assert axes.collections[0].get_array().sum() == sum(map(len, deal.train))
    assert axes.get_title() == f"disjoint\na client has 2 of {len(imageset.class_names)} classes"


def test_the_true_class_is_always_shown():
    scores = torch.tensor([0.1, 0.5, 0.2, 0.3])
    assert figures.best_classes(scores, torch.tensor(3), 2).tolist() == [1, 3]
    assert figures.best_classes(scores, torch.tensor(0), 2).tolist() == [1, 0]


def test_colours_are_the_methods(mixing):
    curves = mixing.curves((0, 0.5), (0, 9)).axes[0]
    colors = {line.get_label(): line.get_color() for line in curves.lines}
    assert colors["K = 9"] == draw.COLORS["pfedmoap"] and colors["hand-written prompt"] == draw.COLORS["zero_shot"]
    gradients = pd.Series({"query.bias": 1.0, "key.bias": 0.0})
    query, key = figures.gradients(gradients).axes[0].patches
    assert query.get_facecolor() != key.get_facecolor()
