"""The same numbers by real processes as by one process, and strangers are refused: `make flower-check`."""

import json
import time
from dataclasses import replace

import pytest
import torch

pytest.importorskip("flwr")

from flower_network import CLIENTS  # noqa: E402
from loop import METHODS, Loop, small  # noqa: E402

from pfedmoap.experiments import prepare  # noqa: E402
from pfedmoap.flower import join  # noqa: E402
from pfedmoap.flower.keys import make_node_key  # noqa: E402
from pfedmoap.flower.links import free_port  # noqa: E402
from pfedmoap.protection import build_filter  # noqa: E402

pytest_plugins = ["flower_network"]
pytestmark = pytest.mark.flower
ROUNDS = {"pfedmoap": 3, "promptfl": 2, "fedper": 2}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_processes_give_the_same_prompts_and_accuracies_as_one_process(network, method):
    rounds = ROUNDS[method.name]
    run = small(method, clients=CLIENTS, rounds=rounds)
    record, lines = network.run(run)
    federation = prepare(run, network.place).federation
    federation.plan = replace(federation.plan, cohort_bytes=1)
    for entry, expected in zip(record["rounds"], federation.rounds(), strict=True):
        assert entry["accuracies"] == pytest.approx(expected.accuracies, abs=1e-6)
        assert list(entry["losses"].values()) == pytest.approx(list(expected.losses.values()), abs=1e-5)
    assert record["events"] == [] and [line["round"] for line in lines] == list(range(1, rounds + 1))
    for client in range(CLIENTS):
        kept = network.folder / "clients" / run.key / f"client-{client}" / f"round-{rounds:05d}.safetensors"
        assert_kept(kept, federation.personal[client])
    if method.name == "pfedmoap":  # what identifies or unlocks anything is in no record
        assert str(network.folder) not in json.dumps(record) and "PRIVATE" not in json.dumps(record)


@pytest.mark.parametrize(("name", "limit"), [("median", 1.0), ("trimmed", 0.3)])
def test_the_servers_filter_works_among_processes_as_it_does_in_one(network, tmp_path, name, limit):
    run = small(METHODS[0], clients=CLIENTS, rounds=2, lr=0.003 if name == "median" else 0.004)
    record, _ = network.run(run, filter=name, filter_limit=limit)
    loop = Loop(tmp_path, run, chosen=build_filter(name, limit))
    loop.run()
    for entry, expected in zip(record["rounds"], loop.coordinator.federation.history, strict=True):
        assert entry["accuracies"] == pytest.approx(expected.accuracies, abs=1e-6)
        assert list(entry["losses"].values()) == pytest.approx(list(expected.losses.values()), abs=1e-5)
    assert record["events"] == loop.coordinator.events


def assert_kept(path, expected):
    from safetensors.torch import load_file

    kept = {name.removeprefix("personal/"): tensor for name, tensor in load_file(path).items()}
    assert kept.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(kept[name], tensor, atol=1e-5, rtol=1e-5)


def test_a_node_with_a_key_that_is_not_registered_is_refused(network, tmp_path):
    stranger = tmp_path / "client-9"
    stranger.mkdir()
    make_node_key(stranger)
    (stranger / "ca.pem").write_bytes((network.host.folder / "ca.pem").read_bytes())
    (stranger / "node.json").write_text(json.dumps({"client": 9, "superlink": f"127.0.0.1:{network.host.port}"}))
    name = join(network.links, stranger, tmp_path / "state")
    until = time.monotonic() + 60
    while network.links.running[name].poll() is None and time.monotonic() < until:
        time.sleep(0.2)
    refused, said = network.links.running[name].poll(), network.log(name)
    network.links.kill(name)
    assert refused not in (None, 0), said
    assert "SuperNode ID" not in said


def test_plain_text_is_refused(network):
    network.links.start("plain", ["flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{network.host.port}",
                                  "--port", str(free_port("127.0.0.1")), "--max-retries", "1"])
    time.sleep(15)
    said = network.log("plain")
    network.links.kill("plain")
    assert "SuperNode ID" not in said and "Starting Flower SuperNode" in said
