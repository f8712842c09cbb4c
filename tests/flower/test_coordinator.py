"""A coordinator and nodes, without processes: the same run as in one process, whatever goes wrong on the way."""

from dataclasses import replace

import pytest
import torch
from loop import METHODS, Loop, small, uploaded

from pfedmoap.errors import PfedmoapError, UserError
from pfedmoap.experiments import prepare
from pfedmoap.flower import check_federable
from pfedmoap.flower.wire import pack, unpack
from pfedmoap.methods import (
    CoOp,
    FedAMP,
    FedAvgProbe,
    FedOTP,
    LogisticRegression,
    PFedPrompt,
    PromptFL,
    PromptFLFT,
    ZeroShot,
)
from pfedmoap.protection import build_filter
from pfedmoap.released import Protocol

OTHERS = [CoOp(), FedAMP(), PromptFLFT(final_epochs=1), FedAvgProbe()]


def in_one_process(loop):
    """The same experiment by `Federation` alone, client after client, as nodes train."""
    federation = prepare(loop.experiment, loop.place).federation
    federation.plan = replace(federation.plan, cohort_bytes=1)
    for _ in federation.rounds():
        pass
    return federation


def assert_same_run(distributed, expected):
    assert distributed.server.shared.keys() == expected.server.shared.keys()
    for name, tensor in expected.server.shared.items():
        assert torch.equal(distributed.server.shared[name], tensor)
    assert distributed.server.pool.entries.keys() == expected.server.pool.entries.keys()
    for client, prompt in expected.server.pool.entries.items():
        assert torch.equal(distributed.server.pool[client], prompt)
    for one, other in zip(distributed.history, expected.history, strict=True):
        for name in ("selected", "losses", "accuracies", "bytes_up", "bytes_down", "sigmas"):
            assert getattr(one, name) == getattr(other, name), (one.number, name)
        assert one.diagnostics == pytest.approx(other.diagnostics, abs=1e-6)


@pytest.mark.parametrize("participation", [1.0, 0.5])
@pytest.mark.parametrize("method", [*METHODS, *OTHERS], ids=lambda method: method.name)
def test_several_machines_give_what_one_process_gives_bit_for_bit(tmp_path, method, participation):
    loop = Loop(tmp_path, small(method, participation=participation))
    assert_same_run(loop.run(), in_one_process(loop))
    assert not loop.coordinator.events


@pytest.mark.parametrize("settings", [
    {"epsilon": 25.0}, {"method": PFedPrompt()}, {"method": FedOTP(), "rounds": 2},
    {"protocol": Protocol(precision="fp16", expert_selection="fixed_order")},
], ids=["privacy", "pfedprompt", "fedotp", "released"])  # fmt: skip
def test_so_do_noise_other_features_and_other_protocols(tmp_path, settings):
    loop = Loop(tmp_path, small(**settings))
    assert_same_run(loop.run(), in_one_process(loop))
    assert not loop.coordinator.events


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_server_killed_in_any_round_and_nodes_restarted_change_nothing(tmp_path, method):
    loop = Loop(tmp_path, small(method))
    expected = in_one_process(loop)
    for _ in range(loop.experiment.rounds):
        for incoming in loop.train(loop.coordinator.open_round()).values():  # trained and sent, but the server dies
            loop.coordinator.take_upload(incoming)
        loop.restart_server()
        loop.nodes = {client: loop.new_node(client) for client in loop.nodes}
        loop.run_round()
    assert loop.coordinator.finished
    assert_same_run(loop.coordinator.federation, expected)
    record = loop.coordinator.store.get(loop.experiment)
    assert record["rounds"][-1]["accuracies"] == expected.history[-1].accuracies


def test_a_node_that_is_gone_for_a_round_comes_back_with_its_gate(tmp_path):
    loop = Loop(tmp_path, small(rounds=4))
    for _ in range(2):
        loop.run_round()
    gate = loop.nodes[1].federation.personal[1]["gate.query.weight"].clone()
    before = loop.coordinator.federation.server.pool[1]
    without = loop.run_round(only=[0, 2, 3])
    assert set(without.losses) == {0, 2, 3} and without.accuracies[1] is None and 0 < without.accuracy < 1
    assert torch.equal(loop.coordinator.federation.server.pool[1], before)
    assert loop.coordinator.events == [{"round": 3, "client": 1, "what": "no answer"}]
    loop.nodes[1] = loop.new_node(1)
    seen = []
    update = loop.nodes[1].federation.method.start
    loop.nodes[1].federation.start = lambda client, download: seen.append(
        update(download, loop.nodes[1].federation.personal[1], 1, loop.nodes[1].federation.context)) or seen[-1]
    back = loop.run_round()
    assert torch.equal(seen[0]["gate.query.weight"], gate)
    assert set(back.losses) == set(range(4)) and None not in back.accuracies


def test_late_stale_and_duplicate_uploads_change_nothing(tmp_path):
    loop = Loop(tmp_path, small())
    expected = in_one_process(loop)
    first = loop.train(loop.coordinator.open_round())
    for incoming in first.values():
        assert loop.coordinator.take_upload(incoming)
        assert not loop.coordinator.take_upload(incoming)  # a duplicate
    downloads = loop.coordinator.close_training()
    assert not loop.coordinator.take_upload(first[0])  # late: the round is being tested
    loop.test(downloads)
    loop.coordinator.close_round()

    def stale_before_sound(uploads):
        assert not loop.coordinator.take_upload(first[2])
        return uploads

    while not loop.coordinator.finished:
        loop.run_round(stale_before_sound)
    assert_same_run(loop.coordinator.federation, expected)
    whats = [event["what"] for event in loop.coordinator.events]
    assert sum("duplicate" in what for what in whats) == 4
    assert sum("uploads are not awaited now" in what for what in whats) == 1
    assert sum("it is for round '1'" in what for what in whats) == 2


@pytest.mark.parametrize("change", [
    lambda prompt: prompt[:-1], lambda prompt: prompt.double(), lambda prompt: prompt * float("nan"),
    lambda prompt: prompt / 0, lambda prompt: prompt * 1000], ids=["shape", "dtype", "nan", "infinite", "norm"])
def test_a_broken_upload_is_refused_with_its_clients_id_and_the_round_goes_on(tmp_path, caplog, change):
    loop = Loop(tmp_path, small())
    loop.run_round()
    before = loop.coordinator.federation.server.pool[2]

    def spoil(uploads):
        update = loop.nodes[2].train(loop.coordinator.federation.downloads([2])[2], 2)
        return uploads | {2: uploaded(loop.experiment, 2, replace(update, upload={
            "prompt": change(update.upload["prompt"])}))}

    result = loop.run_round(spoil)
    assert set(result.losses) == {0, 1, 3}
    assert torch.equal(loop.coordinator.federation.server.pool[2], before)
    assert all(torch.isfinite(tensor).all() for tensor in loop.coordinator.federation.server.shared.values())
    assert "round 2: client 2: upload refused" in caplog.text
    assert loop.coordinator.record()["events"][0]["client"] == 2


def test_a_round_without_any_upload_keeps_the_prompt_and_one_without_any_answer_is_not_a_round(tmp_path):
    loop = Loop(tmp_path, small())
    prompt = loop.coordinator.federation.server.shared["prompt"]
    loop.coordinator.open_round()
    loop.test(loop.coordinator.close_training())
    assert loop.coordinator.close_round().losses == {}
    assert torch.equal(loop.coordinator.federation.server.shared["prompt"], prompt)
    loop.coordinator.open_round()
    loop.coordinator.close_training()
    with pytest.raises(PfedmoapError, match="No client answered in round 2: start the nodes"):
        loop.coordinator.close_round()


def test_a_node_reads_its_own_images_only_and_keeps_its_files_private(tmp_path):
    loop = Loop(tmp_path, small())
    loop.run_round()
    data = loop.nodes[1].federation.data
    assert data.train_features.shape[1] == len(data.train_rows[1]) == data.train_rows[1].max() + 1
    with pytest.raises(IndexError):
        data.train_features[0, torch.from_numpy(data.train_rows[0])]
    assert loop.coordinator.federation.data.train_features.numel() == 0
    for path in (tmp_path / "nodes").rglob("*"):
        if path.is_file() or path.name.startswith("client-"):
            assert path.stat().st_mode & 0o077 == 0, path


def test_damaged_state_on_a_nodes_disk_falls_back_to_the_round_before(tmp_path, caplog):
    loop = Loop(tmp_path, small())
    for _ in range(2):
        loop.run_round()
    kept = sorted(loop.nodes[0].kept.folder.iterdir())
    kept[-1].write_bytes(b"damaged")
    assert loop.nodes[0].kept.load(before=3)[0].keys() == {"personal/prompt"}  # after round 1: no gate yet
    assert "is damaged and not used" in caplog.text


@pytest.mark.parametrize("switch", ["optimizer=shared", "round_order=sequential"])
def test_protocols_that_take_turns_are_refused(switch):
    name, value = switch.split("=")
    with pytest.raises(UserError, match=f"{name} '{value}'.*several machines"):
        check_federable(small(protocol=Protocol(**{name: value})))


def test_what_is_asked_beyond_the_papers_test_is_refused():
    with pytest.raises(UserError, match="evaluate base_new needs all clients at one place"):
        check_federable(small(evaluate="base_new"))


@pytest.mark.parametrize("method", [ZeroShot(), LogisticRegression()], ids=lambda method: method.name)
def test_methods_that_train_nothing_are_refused(tmp_path, method):
    with pytest.raises(UserError, match="trains nothing"):
        Loop(tmp_path, small(method))


def boosted(loop, client: int, times: float):
    """What a client sends that multiplies what it has learned, within the limit on the norm."""
    def spoil(uploads):
        template = loop.coordinator.federation.server.shared["prompt"]
        sent = unpack(uploads[client].arrays, {"prompt": template})["prompt"]
        arrays = pack({"prompt": template + times * (sent - template)})
        return uploads | {client: replace(uploads[client], arrays=arrays)}

    return spoil


def test_a_filter_refuses_what_passed_the_norm_and_says_so(tmp_path):
    loop = Loop(tmp_path, small(), chosen=build_filter("median"))
    first = loop.run_round()
    assert set(first.losses) == {0, 1, 2, 3} and loop.coordinator.events == []
    before = loop.coordinator.federation.server.pool[2]
    result = loop.run_round(boosted(loop, 2, -30.0))
    assert set(result.losses) == {0, 1, 3} and set(result.bytes_up) == {0, 1, 2, 3}
    assert torch.equal(loop.coordinator.federation.server.pool[2], before)
    (event,) = loop.coordinator.events
    assert event["round"] == 2 and event["client"] == 2
    assert event["what"].startswith("upload refused: its distance to the median of the uploads")


def test_without_a_filter_the_same_upload_is_let_in_and_trimmed_it_is_not_averaged(tmp_path):
    plain, trimmed = Loop(tmp_path / "plain", small(PromptFL())), Loop(tmp_path / "trimmed", small(PromptFL()),
                                                                       chosen=build_filter("trimmed"))
    moved = {}
    for name, loop in (("plain", plain), ("trimmed", trimmed)):
        start = loop.coordinator.federation.server.shared["prompt"]
        assert set(loop.run_round(boosted(loop, 2, -15.0)).losses) == {0, 1, 2, 3} and loop.coordinator.events == []
        moved[name] = float((loop.coordinator.federation.server.shared["prompt"] - start).norm())
    assert moved["plain"] > 3 * moved["trimmed"] > 0


def test_the_record_of_a_private_run_has_the_ledger_of_every_client(tmp_path):
    loop = Loop(tmp_path, small(epsilon=25.0, participation=0.5), chosen=build_filter("median", 1.0))
    loop.run()
    record = loop.coordinator.store.get(loop.experiment)
    sent = [(entry["number"], client) for entry in record["rounds"] for client in entry["selected"]]
    assert [(line["round"], line["client"]) for line in record["ledger"]] == sent  # what a filter refuses is spent too
    assert record["ledger"][0]["epsilon"] == pytest.approx(25.0, abs=1e-3)
    assert any(event["what"].startswith("upload refused") for event in record["events"])
    plain = Loop(tmp_path / "plain", small(PromptFL(), rounds=1))
    plain.run()
    assert "ledger" not in plain.coordinator.store.get(plain.experiment)
