"""What the server lets in: only what was asked for, whatever arrives."""

import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loop import Loop, small

from pfedmoap.flower.ingest import Incoming, Ingest
from pfedmoap.flower.wire import Refused, pack, unpack

KEY = "0123456789abcdef"
TEMPLATES = {"prompt": torch.full((4, 6), 0.02)}


def ingest(kind="upload", **options) -> Ingest:
    gate = Ingest(KEY, **options)
    gate.open(3, kind, [0, 1, 2])
    return gate


def about(**changes):
    return {"experiment": KEY, "round": 3, "client": 1, "loss": 1.0} | changes


def sound() -> dict[str, bytes]:
    return pack({"prompt": torch.full((4, 6), 0.03)})


def npy(array, **options) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def test_the_wire_is_numpys_file_format_and_keeps_every_bit():
    tensors = {"a": torch.randn(3, 2), "b": torch.tensor(2.5), "c": torch.randn(2, 0), "d": torch.randn(4).half(),
               "e": torch.randn(4, 3).T}
    packed = pack(tensors)
    for name, tensor in tensors.items():
        assert np.array_equal(np.load(io.BytesIO(packed[name]), allow_pickle=False), tensor.numpy())
        assert torch.equal(unpack(packed, tensors)[name], tensor)


def test_a_sound_upload_is_let_in_once():
    gate = ingest()
    update = gate.upload(Incoming(1, about(), sound()), TEMPLATES)
    assert update.client == 1 and update.loss == 1.0
    assert torch.equal(update.upload["prompt"], torch.full((4, 6), 0.03))
    with pytest.raises(Refused, match="duplicate"):
        gate.upload(Incoming(1, about(), sound()), TEMPLATES)


@pytest.mark.parametrize("changes, sender, reason", [
    ({"experiment": "f" * 16}, 1, "for experiment 'ffff"),
    ({"experiment": None}, 1, "for experiment 'None'"),
    ({"round": 2}, 1, "for round '2', not 3"),
    ({"round": 4}, 1, "for round '4'"),
    ({"round": 3.0}, 1, "for round"),
    ({"round": True}, 1, "for round"),
    ({"client": 2}, 1, "for client '2', not 1"),
    ({"client": 7}, 7, "not asked"),
    ({"loss": math.nan}, 1, "its loss is no finite number"),
    ({"loss": "1"}, 1, "its loss"),
    ({"loss": True}, 1, "its loss"),
])
def test_a_reply_for_something_else_is_refused(changes, sender, reason):
    with pytest.raises(Refused, match=reason):
        ingest().upload(Incoming(sender, about(**changes), sound()), TEMPLATES)


PROMPT = np.full((4, 6), 0.02, np.float32)


@pytest.mark.parametrize("arrays, reason", [
    ({}, "nothing where 'prompt'"),
    ({"prompt": npy(PROMPT), "gate.query.weight": npy(PROMPT)}, "'gate.query.weight', 'prompt' where 'prompt'"),
    ({"prompt": npy(PROMPT[:3])}, r"no float32 array of shape \(4, 6\)"),
    ({"prompt": npy(PROMPT.T)}, "no float32"),
    ({"prompt": npy(PROMPT.astype(np.float64))}, "no float32"),
    ({"prompt": npy(PROMPT.astype(">f4"))}, "no float32"),
    ({"prompt": npy(PROMPT.astype(np.int32))}, "no float32"),
    ({"prompt": npy(np.asfortranarray(PROMPT))}, "no float32"),
    ({"prompt": npy(PROMPT.astype(object), allow_pickle=True)}, "no float32"),
    ({"prompt": pickle.dumps(PROMPT)}, "no float32"),
    ({"prompt": npy(PROMPT)[:-1]}, "no float32"),
    ({"prompt": npy(PROMPT) + bytes(50_000_000)}, "50,000,224 bytes, expected 224"),
    ({"prompt": npy(PROMPT * np.nan)}, "not finite"),
    ({"prompt": npy(np.full((4, 6), -np.inf, np.float32))}, "not finite"),
    ({"prompt": npy(PROMPT * 11)}, "norm of prompt.*beyond 10 times"),
    ({"prompt": npy(np.full((4, 6), 3e38, np.float32))}, "norm of prompt"),
])
def test_broken_tensors_are_refused(arrays, reason):
    gate = ingest()
    with pytest.raises(Refused, match=reason):
        gate.upload(Incoming(1, about(), arrays), TEMPLATES)
    gate.upload(Incoming(1, about(), sound()), TEMPLATES)  # a sound one may follow


def test_the_norm_is_judged_by_the_median_of_the_last_uploads_and_by_the_noise_of_privacy():
    def upload(gate, client, value, **options):
        return gate.upload(Incoming(client, about(client=client), pack({"prompt": torch.full((4, 6), value)})),
                           TEMPLATES, **options)

    gate = ingest(norm_limit=3)
    upload(gate, 0, 0.05)
    upload(gate, 1, 0.12)  # 3 times 0.05 are allowed by now
    with pytest.raises(Refused, match="beyond 3 times"):
        upload(gate, 2, 0.3)
    upload(gate, 2, 0.25)  # the median of 0.05 and 0.12 is 0.085
    with pytest.raises(Refused):
        upload(ingest(), 0, 1.0)
    upload(ingest(), 0, 1.0, noise=0.1)


@pytest.mark.parametrize("changes", [
    {"accuracy": 1.5}, {"accuracy": 10**400}, {"entropy": -(10**400)}, {"accuracy": math.nan},
    {"accuracy": None}, {"entropy": math.inf}, {"entropy": [1.0]},
    {"x" * 100: 1.0}, {"a b": 1.0}, {"": 1.0}, {"round": 2}])
def test_a_broken_test_is_refused(changes):
    with pytest.raises(Refused):
        ingest("test").test(Incoming(1, {"experiment": KEY, "round": 3, "client": 1, "accuracy": 0.5} | changes, {}))


words = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(),
                  st.lists(st.floats(), max_size=3), st.just(KEY), st.just(3), st.just(1), st.just(0.5))
told = st.sampled_from(["experiment", "round", "client", "loss", "accuracy"])
abouts = st.one_of(
    st.dictionaries(st.one_of(st.text(), told), words),
    st.fixed_dictionaries({"experiment": st.just(KEY), "round": st.just(1), "client": st.just(1), "loss": words}))
values = st.lists(st.floats(width=32), min_size=24, max_size=24)
blobs = st.one_of(
    st.binary(max_size=400), st.just(npy(PROMPT)),
    values.map(lambda numbers: npy(np.array(numbers, np.float32).reshape(4, 6))),
    st.tuples(st.integers(0, 223), st.binary(min_size=1, max_size=8)).map(
        lambda cut: npy(PROMPT)[: cut[0]] + cut[1] + npy(PROMPT)[cut[0] + len(cut[1]) :]))
arrays = st.one_of(st.fixed_dictionaries({"prompt": blobs}), st.dictionaries(st.text(max_size=8), blobs, max_size=3))


@settings(max_examples=400, deadline=None)
@given(st.integers(-1, 4), abouts, arrays)
def test_whatever_arrives_is_refused_or_sound(sender, about, arrays):
    gate = Ingest(KEY)
    gate.open(1, "upload", [0, 1, 2])
    try:
        update = gate.upload(Incoming(sender, about, arrays), TEMPLATES)
    except Refused as error:
        assert not gate.norms and len(str(error)) < 400
        return
    prompt = update.upload["prompt"]
    assert (about["experiment"], about["round"], about["client"]) == (KEY, 1, sender) and sender in (0, 1, 2)
    assert prompt.shape == (4, 6) and prompt.dtype == torch.float32 and prompt.isfinite().all()
    assert prompt.double().norm() <= 10.001 * TEMPLATES["prompt"].double().norm() and math.isfinite(update.loss)


@pytest.fixture(scope="module")
def loop(tmp_path_factory):
    return Loop(tmp_path_factory.mktemp("loop"), small(clients=3, rounds=2))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(-1, 4), abouts, arrays), max_size=6))
def test_garbage_leaves_the_servers_pool_and_prompt_as_they_were(loop, garbage):
    server = loop.coordinator.federation.server
    loop.coordinator.open_round()
    before = copy.deepcopy((server.shared, server.pool.entries))
    assert not any(loop.coordinator.take_upload(Incoming(*one)) for one in garbage)
    loop.coordinator.close_training()
    assert not any(loop.coordinator.take_test(Incoming(*one)) for one in garbage)
    server.round = 1
    assert server.pool.entries.keys() == before[1].keys()
    assert torch.equal(server.shared["prompt"], before[0]["prompt"])
