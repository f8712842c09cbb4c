"""Nodes and servers that are killed, late or hostile, and the commands by hand: `make flower-faults`."""

import json
import os
import re
import signal
import subprocess
import sys
import threading

import pytest

pytest.importorskip("flwr")

from flower_network import CLIENTS  # noqa: E402
from interrupts import hearing_interrupts  # noqa: E402
from loop import Loop, small  # noqa: E402

from pfedmoap.experiments import Place, prepare  # noqa: E402
from pfedmoap.flower import Host
from pfedmoap.flower.hosting import SUPERLINK

pytest_plugins = ["flower_network"]
pytestmark = pytest.mark.flower_faults
SPOILS = """
if any(b"flwr-clientapp" in part for part in open("/proc/self/cmdline", "rb").read().split(b"\\0")):
    from pfedmoap.flower import client_app
    content = client_app.content
    client_app.content = lambda about, tensors=None: content(
        about, {name: tensor[..., :-1] for name, tensor in (tensors or {}).items()})
"""


def test_an_answer_that_comes_late_is_ignored_and_its_node_goes_on(network, tmp_path):
    """Client 1 is stopped when it is asked in round 2, until the round is over."""
    run = small(clients=CLIENTS, rounds=4, seed=3)
    asked = network.log("client-1").count("Receiving: train message")

    def stop_in_round_2():
        network.wait_for("client-1", "Receiving: train message", asked + 2, seconds=150)
        for process in network.family("client-1"):
            process.suspend()

    def go_on_after_round_2(line):
        if line["round"] == 2:
            for process in network.family("client-1"):
                process.resume()

    stopper = threading.Thread(target=stop_in_round_2)
    stopper.start()
    record, _ = network.run(run, go_on_after_round_2, timeout=120.0)  # slow machines import for half a minute
    stopper.join()
    trained = [sorted(entry["losses"]) for entry in record["rounds"]]
    assert trained[:2] == [["0", "1"], ["0"]] and trained[3] == ["0", "1"]
    late = {2} if "1" in trained[2] else {2, 3}  # round 3 may begin before the server sees that the node goes on
    assert {(event["round"], event["client"]) for event in record["events"]} == {(number, 1) for number in late}
    expected, taken_in = (Loop(tmp_path / name, run) for name in ("expected", "taken in"))
    for number in (1, 2, 3, 4):
        expected.run_round(spoil=lambda uploads, missed=number in late: {0: uploads[0]} if missed else uploads)
        taken_in.run_round()
    after = max(late)  # its index is the next round's, with what client 1 sent in round 1 as an expert
    loss = record["rounds"][after]["losses"]["0"]
    assert loss == pytest.approx(expected.coordinator.federation.history[after].losses[0], abs=1e-5)
    assert loss != pytest.approx(taken_in.coordinator.federation.history[after].losses[0], abs=1e-5)


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


@pytest.mark.skipif(sys.platform != "linux", reason="the hostile node finds out by /proc which process it is")
def test_a_hostile_node_is_refused_and_the_round_goes_on(network, tmp_path, monkeypatch):
    """Client 1's app cuts a column off all that it sends."""
    run = small(clients=CLIENTS, rounds=2, seed=4)
    (tmp_path / "sitecustomize.py").write_text(SPOILS)
    network.links.stop("client-1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    network.join(1)
    monkeypatch.undo()
    record, _ = network.run(run)
    network.links.stop("client-1")
    network.join(1)
    assert [sorted(entry["losses"]) for entry in record["rounds"]] == [["0"], ["0"]]
    assert all(None not in entry["accuracies"] for entry in record["rounds"])  # it is tested all the same
    assert [(event["round"], event["client"]) for event in record["events"]] == [(1, 1), (2, 1)]
    assert all("upload refused: " in event["what"] for event in record["events"])
    expected = Loop(tmp_path, run)
    for _ in range(2):
        expected.run_round(spoil=lambda uploads: {0: uploads[0]})
    for entry, other in zip(record["rounds"], expected.coordinator.federation.history, strict=True):
        assert entry["losses"]["0"] == pytest.approx(other.losses[0], abs=1e-5)


def test_server_and_clients_by_hand(tmp_path):
    """As the README has it, in three terminals; Ctrl-C ends a client."""
    run = small(clients=CLIENTS, rounds=2)
    folder, cache = tmp_path / "server", tmp_path / "cache"

    def pfedmoap(*arguments):
        command = [sys.executable, "-m", "pfedmoap", "federate", *arguments, "--cache-dir", str(cache)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                preexec_fn=hearing_interrupts)

    settings = [text for name, value in {"--clients": CLIENTS, "--rounds": 2, "--shots": run.shots, "--patience": 120,
                                         "--experts": 2}.items() for text in (name, str(value))]
    server = pfedmoap("server", str(folder), "--profile", "smoke", *settings)
    said = ""
    while "listening on" not in said:
        line = server.stderr.readline()
        assert line, said
        said += line
    nodes = [pfedmoap("client", str(folder / "nodes" / f"client-{client}")) for client in range(CLIENTS)]
    out, err = server.communicate(timeout=240)
    assert server.returncode == 0, said + err
    for node in nodes:
        node.send_signal(signal.SIGINT)
        assert node.wait(timeout=60) == 130
    record = json.loads(next((folder / "records").glob("*.json")).read_text())
    expected = list(prepare(run, Place(cache=str(cache))).federation.rounds())
    assert [entry["accuracies"] for entry in record["rounds"]] == [
        pytest.approx(entry.accuracies, abs=1e-6) for entry in expected]
    assert f"{100 * record['accuracy']:.1f}" in out and re.search(r"round 2 of 2: accuracy", err)
    left = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout
    assert str(folder) not in left
