"""Each difference between paper and released code, as SPEC 9 describes it."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as transforms
from PIL import Image
from test_federation import assert_equal, federation, finished, state

from pfedmoap import clip as clips
from pfedmoap.commands import options
from pfedmoap.data import ImageSet, Split, cached_tables, image_features, partition
from pfedmoap.data.images import cifar_view
from pfedmoap.errors import UserError
from pfedmoap.experiments import (
    Experiment,
    Personalised,
    Place,
    Store,
    dealt,
    frame,
    from_profile,
    load_dataset,
    prepare,
    run,
)
from pfedmoap.methods import METHODS, FedProx, PFedMoAP, PromptFL, ZeroShotPrior
from pfedmoap.released import PAPER, RELEASED, SWITCHES, Protocol, parse_protocol, released
from pfedmoap.released.federation import FixedOrderPool, fixed_order
from pfedmoap.server import Pool


@pytest.fixture(scope="module")
def place(features_cache) -> Place:
    return Place(cache=features_cache)


def domains(method=PromptFL(), **settings) -> Experiment:
    return from_profile("domains", method, "smoke", partition="domain_dirichlet", clients=12, alpha=0.3, shots=None,
                      **settings)


# --- the protocol itself


def test_the_switches_are_those_of_the_specification():
    assert list(SWITCHES) == [
        "label_pairing", "class_names", "expert_selection", "optimizer", "round_order", "prompt_init",
        "cifar_preprocess", "fedprox_gradient", "coop_epochs", "data_seed", "class_deal", "precision"]  # fmt: skip
    assert all(getattr(PAPER, name) == switch.paper for name, switch in SWITCHES.items())
    assert all(getattr(RELEASED, name) == switch.released != switch.paper for name, switch in SWITCHES.items())
    assert all(switch.help.endswith(".") and "\n" not in switch.help for switch in SWITCHES.values())


def test_protocols_from_text_and_back():
    assert parse_protocol("paper") == PAPER and parse_protocol("released") == RELEASED
    assert parse_protocol("class_deal, data_seed") == released("data_seed", "class_deal")
    for protocol in (PAPER, RELEASED, released("optimizer"), released("optimizer", "precision")):
        assert parse_protocol(str(protocol)) == protocol == Protocol.from_dict(dataclasses.asdict(protocol))


@pytest.mark.parametrize(("make", "message"), [
    (lambda: released("optimiser"), "no protocol switch 'optimiser'; did you mean 'optimizer'"),
    (lambda: parse_protocol("relased"), "no protocol or switch 'relased'; did you mean 'released'"),
    (lambda: parse_protocol(","), "no protocol or switch ','"),
    (lambda: Protocol(precision="fp64"), "precision must be 'fp32' .paper. or 'fp16' .released code., not 'fp64'"),
    (lambda: Experiment.from_dict({"protocol": {"class_name": "matched"}}), "did you mean 'class_names'"),
])
def test_what_is_no_protocol_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_every_switch_is_part_of_the_key_and_survives_json():
    made = [Experiment(protocol=released(name)) for name in SWITCHES]
    assert len({one.key for one in made} | {Experiment().key}) == 1 + len(SWITCHES)
    assert all(Experiment.from_dict(json.loads(json.dumps(one.to_dict()))) == one for one in made)


def test_the_command_line_takes_presets_and_switches(place):
    (option,) = [option for option in options.setting_options() if option.name == "protocol"]
    assert all(name in option.help for name in SWITCHES) and "default: paper" in option.help
    for text in ("released", "paper", "data_seed,class_deal"):
        given = {"protocol": option.type.convert(text, option, None)}
        (one,) = options.build_experiments("digits", ["promptfl"], ["1"], "smoke", given)
        assert one.protocol == parse_protocol(text)
        record = run(one, place, progress=False)
        assert frame([record])["protocol"].tolist() == [text]


@pytest.mark.parametrize("method", [method() for method in METHODS.values()], ids=lambda method: method.name)
def test_every_method_runs_as_released_and_resumes_bit_for_bit(place, tmp_path, method):
    """All switches at once, on domains; a checkpoint carries optimiser, schedule and gate that are handed on."""

    class Cut(Exception):
        pass

    def cut(result):
        if result.number == 2:
            raise Cut

    one = from_profile("office", method, "smoke", protocol=RELEASED, partition="domain_dirichlet", clients=8, alpha=1.0,
                     shots=12, rounds=3)
    whole, store = run(one, place, progress=False), Store(tmp_path)
    with pytest.raises(Cut):
        run(one, place, store=store, progress=False, on_round=cut)
    resumed = run(one, place, store=store, progress=False)
    for entry, again in zip(whole["rounds"], resumed["rounds"], strict=True):
        assert entry | {"seconds": 0} == again | {"seconds": 0}


# --- data


def test_mispaired_clients_train_and_are_tested_on_what_the_partition_says(place):
    prepared = prepare(domains(ZeroShotPrior(), protocol=released("label_pairing")), place)
    imageset, data = prepared.imageset, prepared.federation.data
    for split in ("train", "test"):
        rows, labels = getattr(data, f"{split}_rows"), getattr(data, f"{split}_labels")
        table = image_features(prepared.clip, imageset, split, cache_dir=place.cache)[0]
        features = data.plain_features if split == "train" else data.test_features
        wrong = 0
        for client in range(12):
            images, given = map(np.array, zip(*prepared.partition.pairs(client, split), strict=True))
            np.testing.assert_array_equal(labels[rows[client]], given)
            np.testing.assert_array_equal(features[rows[client]], table[images])
            wrong += (getattr(imageset, split).labels[images] != given).sum()
        assert wrong > 0.7 * sum(map(len, rows))
    assert {len(own) for own in prepared.partition.train} == {len(own) for own in dealt(domains(), imageset).train}


def test_mispairing_changes_nothing_without_domains():
    imageset = load_dataset("digits")
    one = from_profile("digits", PromptFL(), "smoke", partition="dirichlet", shots=None, alpha=5.0)
    mixed_up = dataclasses.replace(one, protocol=released("label_pairing", "class_names"))
    for client in range(5):
        assert dealt(one, imageset).pairs(client) == dealt(mixed_up, imageset).pairs(client)


def test_shuffled_names_change_the_text_features_order_and_nothing_else(place):
    straight, shuffled = (prepare(domains(protocol=protocol), place) for protocol in (PAPER, released("class_names")))
    order = [straight.imageset.class_names.index(name) for name in shuffled.imageset.class_names]
    assert order != sorted(order) == list(range(10))
    ours, theirs = straight.federation.context, shuffled.federation.context
    torch.testing.assert_close(theirs.handwritten, ours.handwritten[order], atol=1e-6, rtol=0)
    prompt = ours.initial_prompt[None]
    torch.testing.assert_close(theirs.text(prompt), ours.text(prompt)[:, order], atol=1e-6, rtol=0)
    assert torch.equal(straight.federation.data.train_labels, shuffled.federation.data.train_labels)
    other_seed = prepare(domains(protocol=released("class_names"), seed=2), place).imageset.class_names
    assert other_seed != shuffled.imageset.class_names


def test_the_data_seed_gives_all_seeds_the_same_images():
    imageset = load_dataset("nature")
    made = [dealt(from_profile("nature", PromptFL(), "smoke", seed=seed, protocol=released("data_seed")), imageset)
            for seed in (1, 2)]
    expected = partition(imageset, clients=10, seed=2023, shots=4)
    for client in range(10):
        assert made[0].pairs(client) == made[1].pairs(client) == expected.pairs(client)
    paper = [dealt(from_profile("nature", PromptFL(), "smoke", seed=seed), imageset) for seed in (1, 2)]
    assert paper[0].pairs(0) != paper[1].pairs(0)


def test_the_class_deal_reaches_the_partition():
    one = from_profile("nature", PromptFL(), "smoke", protocol=released("class_deal"))
    imageset = load_dataset("nature")
    classes = len(imageset.class_names)
    counts = [len(set(labels)) for labels in dealt(one, imageset).test_labels]
    assert counts == [round(classes / 10)] * 9 + [classes - 9 * round(classes / 10)]


STATISTICS = {
    "cifar10": ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]),
    "cifar100": ([0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]),
}


def small_set(name, augment=False):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    split = Split([Image.fromarray(image) for image in pixels], np.zeros(6, dtype=np.int64))
    return ImageSet(name, ("thing",), split, split, fingerprint="ab" * 32, source="", augment=augment)


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("size", [224, 16])
def test_cifars_view_equals_torchvisions_pipeline(name, size):
    mean, std = STATISTICS[name]
    pipeline = transforms.Compose([
        transforms.ToImage(), transforms.ToDtype(torch.float32, scale=True), transforms.Normalize(mean, std),
        transforms.Resize([size, size], transforms.InterpolationMode.BILINEAR)])
    image = small_set(name).train.images[0]
    torch.testing.assert_close(cifar_view(image, name, size), pipeline(image).as_subclass(torch.Tensor))


def test_cifars_features_have_tables_of_their_own(tiny_clip, tmp_path):
    imageset = small_set("cifar10")
    ours, theirs = (image_features(tiny_clip, imageset, "train", 2, cache_dir=tmp_path, preprocess=kind)[:, :6].copy()
                    for kind in ("clip", "cifar"))
    views = torch.stack([cifar_view(image, "cifar10", tiny_clip.image_size) for image in imageset.train.images])
    expected = tiny_clip.encode_images(views)
    np.testing.assert_allclose(theirs, expected.expand(2, -1, -1), atol=1e-6)  # no augmentation
    assert np.abs(ours - theirs).max() > 1e-3
    assert np.array_equal(image_features(tiny_clip, imageset, "train", 2, cache_dir=tmp_path), ours)
    image_features(tiny_clip, imageset, "test", cache_dir=tmp_path, preprocess="cifar", spatial=True)
    kinds = [table.kind for table in cached_tables(tmp_path)]
    assert sorted(kinds) == ["test view", "test view, CIFAR's mean and std", "test view, CIFAR's mean and std, spatial"]


def test_other_sets_keep_clips_preprocessing(tmp_path):
    imageset = small_set("nature", augment=True)
    for views in (0, 2):
        ours, theirs = (
            image_features(clips.load_clip(), imageset, "train", views, cache_dir=tmp_path / kind, preprocess=kind)
            for kind in ("clip", "cifar"))
        assert np.array_equal(ours, theirs)


# --- where training starts


def test_prompts_start_from_the_word_false(place):
    one = from_profile("digits", PFedMoAP(), "smoke", protocol=released("prompt_init"))
    prepared = prepare(one, place)
    clip = clips.load_clip()
    tokens = clip.tokenizer(["False"])[0]
    assert tokens[:3].tolist() == [49406, 9078, 49407]  # one token between start and end
    embedding = clip.model.token_embedding(tokens)[1:2]
    assert torch.equal(prepared.federation.server.shared["prompt"], embedding)
    assert finished(prepared.federation).server.shared["prompt"].shape == (1, clip.token_width)
    sentences = clip.encode_texts([f"False {name}." for name in prepared.imageset.class_names])
    torch.testing.assert_close(prepared.federation.context.text(embedding[None])[0], sentences, atol=1e-5, rtol=0)


# --- on the server


def test_everyone_is_lent_the_first_of_one_order():
    pool = {client: torch.full((1, 1), float(client)) for client in (0, 1, 3, 4)}
    fixed = FixedOrderPool([3, 2, 0, 4, 1])
    fixed.replace(pool)
    assert [fixed.nearest(client, 2) for client in (0, 1, 3, 4)] == [[3, 4], [3, 0], [0, 4], [3, 0]]
    assert fixed.nearest(1, 9) == [3, 0, 4]
    assert Pool(pool).nearest(1, 2) == [0, 3]


def test_the_order_of_experts_is_the_same_in_all_rounds(context):
    lent = {}

    class Watching(PFedMoAP):
        def download(self, server, client):
            lent.setdefault(server.round, {})[client] = self._choose(server, client)
            return super().download(server, client)

    finished(federation(context, Watching(d_gating=16, heads=4, experts=2), protocol=released("expert_selection")))
    order = fixed_order(4, context.seed)
    for number in (2, 3, 4):
        assert lent[number] == {client: [other for other in order if other != client][:2] for client in range(4)}
    assert sorted(order) == list(range(4)) and {tuple(fixed_order(4, seed)) for seed in range(9)} != {tuple(order)}


# --- FedProx


@pytest.mark.parametrize("mu", [0.5, 100.0])
def test_fedprox_without_its_gradient_is_promptfl_bit_for_bit(context, mu):
    detached = released("fedprox_gradient")
    ours, real = (federation(context, FedProx(mu=mu), protocol=protocol) for protocol in (detached, PAPER))
    promptfl = federation(context, PromptFL())
    assert_equal(state(finished(ours)), state(finished(promptfl)))
    assert [entry.accuracies for entry in ours.history] == [entry.accuracies for entry in promptfl.history]
    assert not torch.equal(state(finished(real))["shared/prompt"], state(ours)["shared/prompt"])
    assert ours.history[0].losses[0] > promptfl.history[0].losses[0]  # the term itself still counts


def test_the_switch_reaches_fedprox(place):
    for protocol, real in ((PAPER, True), (released("fedprox_gradient"), False)):
        one = from_profile("digits", FedProx(), "smoke", protocol=protocol)
        assert (type(prepare(one, place).federation.method) is FedProx) is real


# --- personal models


def test_a_personal_model_of_a_released_run_predicts_as_the_federation_does(place, tmp_path):
    prepared = prepare(domains(PFedMoAP(), protocol=RELEASED, rounds=2), place)
    finished(prepared.federation)
    Personalised.of(prepared, 0).save(tmp_path / "model.safetensors")
    model = Personalised.load(tmp_path / "model.safetensors")
    pairs, names = prepared.partition.pairs(0, "test"), prepared.imageset.class_names
    guesses = [model.predict(prepared.imageset.test.images[image], top=1).classes[0] for image, _ in pairs]
    right = np.mean([guess == names[label] for guess, (_, label) in zip(guesses, pairs, strict=True)])
    assert right == pytest.approx(prepared.federation.history[-1].accuracies[0])
    with pytest.raises(UserError, match="leave out the protocol switch cifar_preprocess"):
        cifar = dataclasses.replace(prepared, imageset=dataclasses.replace(prepared.imageset, name="cifar10"))
        Personalised.of(cifar, 0)
