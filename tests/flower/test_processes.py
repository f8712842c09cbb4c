"""A federation of real processes on the loopback, with TLS and node authentication: `make flower-check`."""

import json
import subprocess
import threading
import time
from dataclasses import replace

import pytest
import torch

pytest.importorskip("flwr")

from loop import METHODS, small  # noqa: E402

from pfedmoap.flower.hosting import SUPERLINK, Host  # noqa: E402
from pfedmoap.flower.joining import join  # noqa: E402
from pfedmoap.flower.keys import make_node_key  # noqa: E402
from pfedmoap.flower.links import Links, free_port  # noqa: E402
from pfedmoap.preparation import Place, prepare  # noqa: E402

pytestmark = pytest.mark.flower
CLIENTS = 2
TIMEOUT = 60.0  # of a round, in which every node takes part within seconds


class Network:
    """A server and its nodes, each in folders of its own."""

    def __init__(self, folder, links):
        self.folder, self.links, self.place = folder, links, Place(cache=str(folder / "cache"))
        self.host = Host(CLIENTS, folder / "server", self.place)
        self.host.start(links)
        for client in range(CLIENTS):
            self.join(client)

    def join(self, client):
        return join(self.links, self.host.invitation(client), self.folder / "clients", self.place)

    def run(self, run, on_line=lambda line: None):
        lines = []
        record = self.host.run(run, self.links, lambda line: [lines.append(line), on_line(line)],
                               round_timeout=TIMEOUT, patience=TIMEOUT)
        return record, lines

    def log(self, name):
        path = self.links.logs / f"{name}.log"
        return path.read_text(errors="replace") if path.is_file() else ""

    def wait_for(self, name, text, count=1, seconds=90):
        until = time.monotonic() + seconds
        while self.log(name).count(text) < count:
            assert time.monotonic() < until, f"{name} did not say {text!r}: {self.log(name)[-2000:]}"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("network")
    with Links(folder / "links") as links:
        network = Network(folder, links)
        yield network
        started = [process.pid for process in links.running.values()]
    left = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout
    assert started and str(folder) not in left  # everything that was started is stopped
    for path in folder.rglob("*"):
        if path.suffix in (".key", ".pem", ".log", ".safetensors") and "cache" not in path.parts:
            assert path.stat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("method, rounds", zip(METHODS, (3, 2, 2), strict=True), ids=lambda value: getattr(
    value, "name", str(value)))  # fmt: skip
def test_processes_give_the_same_prompts_and_accuracies_as_one_process(network, method, rounds):
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


def test_a_node_and_the_server_are_killed_in_mid_round_and_come_back(network):
    """Round 2 goes on without the node; then the server is killed, and in round 3 both are back."""
    run = small(clients=CLIENTS, rounds=3, seed=2)
    trained = network.log("client-1").count("Receiving: train message")
    gate = network.folder / "clients" / run.key / "client-1"

    def kill_node_in_round_2():
        network.wait_for("client-1", "Receiving: train message", trained + 2, seconds=150)
        network.links.kill("client-1")

    def kill_server_after_round_2(line):
        if line["round"] == 2:
            network.links.kill(SUPERLINK)
            raise ConnectionAbortedError

    killer = threading.Thread(target=kill_node_in_round_2)
    killer.start()
    with pytest.raises(ConnectionAbortedError):
        network.run(run, kill_server_after_round_2)
    killer.join()
    assert (gate / "round-00001.safetensors").is_file()
    network.host = Host(CLIENTS, network.folder / "server", network.place)
    network.host.start(network.links)
    network.join(1)
    record, lines = network.run(run)
    assert [line["round"] for line in lines] == [3]  # rounds 1 and 2 were not run again
    assert [sorted(entry["losses"]) for entry in record["rounds"]] == [["0", "1"], ["0"], ["0", "1"]]
    assert record["rounds"][1]["accuracies"][1] is None and None not in record["rounds"][2]["accuracies"]
    assert {(event["round"], event["client"]) for event in record["events"]} == {(2, 1)}
    assert (gate / "round-00003.safetensors").is_file()
