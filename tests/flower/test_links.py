"""What is started is stopped, with everything that it started in turn; and files are private."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import psutil
import pytest

from pfedmoap.errors import PfedmoapError, UserError
from pfedmoap.experiments import Experiment, Place
from pfedmoap.flower import Links, joining
from pfedmoap.flower.links import free_port, wait_until_free
from pfedmoap.system import write_atomically

CHILD = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], " \
        "start_new_session=True); print('ready', flush=True); time.sleep(60)"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """The grandchild of these tests ends at no polite word: waiting for it as long as in life would test nothing."""
    monkeypatch.setattr("pfedmoap.flower.links.GRACE", 0.5)


def family_of(links):
    links.start("one", [sys.executable, "-c", CHILD])
    until = time.monotonic() + 30
    while "ready" not in (links.logs / "one.log").read_text():
        assert time.monotonic() < until
        time.sleep(0.05)
    first = psutil.Process(links.running["one"].pid)
    return [first, *first.children(recursive=True)]


def gone(family):
    return not any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in family)


@pytest.mark.parametrize("error", [None, PfedmoapError, KeyboardInterrupt])
def test_everything_is_stopped_in_the_end_on_failure_and_on_ctrl_c(tmp_path, error):
    try:
        with Links(tmp_path) as links:
            family = family_of(links)
            assert len(family) == 2
            if error:
                raise error
    except (PfedmoapError, KeyboardInterrupt):
        pass
    assert gone(family)


def test_on_sigterm_too(tmp_path):
    with pytest.raises(KeyboardInterrupt), Links(tmp_path) as links:
        family = family_of(links)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert gone(family)


def test_a_killed_process_takes_its_own_with_it(tmp_path):
    with Links(tmp_path) as links:
        family = family_of(links)
        links.kill("one")
        assert gone(family) and not links.running


def test_a_process_that_ends_is_named_with_the_end_of_its_log(tmp_path):
    with Links(tmp_path) as links:
        links.start("broken", [sys.executable, "-c", "print('no such port'); raise SystemExit(3)"])
        with pytest.raises(PfedmoapError, match=r"(?s)broken ended with code 3.*no such port"):
            links.wait_for("broken", "127.0.0.1", free_port("127.0.0.1"))


EXECUTING = "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', " \
            "'import time; time.sleep(60)', '/bin/executor'], start_new_session=True); print(child.pid, flush=True); " \
            "time.sleep(60)"


def test_a_helper_that_ended_is_missed_though_its_process_goes_on(tmp_path):
    """As Flower's executor, which neither SuperLink nor SuperNode misses: they would wait for ever."""
    with Links(tmp_path) as links:
        links.start("node", [sys.executable, "-c", EXECUTING])
        assert links.lost("node", "other") is None  # what was never there is not missed
        until = time.monotonic() + 30
        while not (said := (links.logs / "node.log").read_text().strip()) or not links._seen:
            assert links.lost("node", "executor") is None and time.monotonic() < until
            time.sleep(0.05)
        psutil.Process(int(said)).kill()
        while links.lost("node", "executor") is None:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert links.lost("node", "executor") == "executor" and links.running["node"].poll() is None
        links.kill("node")
        links.start("node", [sys.executable, "-c", "import time; time.sleep(60)"])
        assert links.lost("node", "executor") is None  # a new start has not had it yet
        links.running["node"].kill()
        links.running["node"].wait()
        assert links.lost("node", "executor") == "node"


@pytest.mark.parametrize("patience, starts", [(60.0, 3), (0.0, 1)])
def test_a_node_whose_earlier_self_is_still_connected_starts_anew(patience, starts, monkeypatch, tmp_path):
    """A server takes a node that was killed for connected for a minute, and refuses another one with its key."""
    tally = tmp_path / "starts"
    refused = (f"import pathlib, sys, time; path = pathlib.Path({str(tally)!r}); number = len(path.read_text()) + 1; "
               f"path.write_text('x' * number); number < 3 and sys.exit('[code: 2004] Failed to activate SuperNode.'); "
               f"time.sleep(60)")
    tally.write_text("")
    monkeypatch.setattr(joining, "PAUSE", 0.0)
    monkeypatch.setattr(joining, "FOR_AT_MOST", patience)
    monkeypatch.setattr(joining, "join", lambda links, *_: links.start("client-0", [sys.executable, "-c", refused])
                        or "client-0")
    said = []
    with Links(tmp_path / "links") as links:
        node = joining.Node(links, tmp_path, tmp_path, Place(), said.append)
        until = time.monotonic() + 30
        while not (lost := node.lost()) and len(tally.read_text()) < 3 and time.monotonic() < until:
            time.sleep(0.05)
        assert len(tally.read_text()) == starts
        assert (lost, len(said)) == ((None, 1) if patience else ("client-0", 0))
        links.kill("client-0") if patience else None


def test_a_port_is_waited_for_until_the_killed_server_has_left_it(monkeypatch):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        monkeypatch.setattr("pfedmoap.flower.links.FREED", 0.3)
        with pytest.raises(UserError, match=f"Another program listens on 127.0.0.1:{port}"):
            wait_until_free("127.0.0.1", port)
    wait_until_free("127.0.0.1", port)


class Register:
    """A SuperLink that registers a key once, and is killed with its host after so many calls."""

    def __init__(self, calls):
        self.keys, self.calls = {}, calls

    def call(self, command):
        if command[:3] == ["flwr", "supernode", "list"]:
            return json.dumps({"success": True, "nodes": [{"node-id": str(node)} for node in self.keys.values()]})
        key = Path(command[3]).read_text()
        if key in self.keys:
            raise PfedmoapError("Public key already in use")
        self.keys[key] = 100 + len(self.keys)
        self.calls -= 1
        if self.calls == 0:
            raise KeyboardInterrupt  # before the answer is noted
        return json.dumps({"success": True, "node-id": self.keys[key]})


@pytest.mark.parametrize("killed_in", [1, 2, 3])
def test_a_kill_between_a_registration_and_its_note_costs_nothing(killed_in, tmp_path):
    hosting = pytest.importorskip("pfedmoap.flower.hosting", exc_type=ImportError)
    register = Register(killed_in)
    with pytest.raises(KeyboardInterrupt):
        hosting.Host(3, tmp_path)._register(register, again=False)
    host = hosting.Host(3, tmp_path)
    roster = host._register(register, again=True)
    assert roster == {register.keys[(host.invitation(client) / "node.pub").read_text()]: client for client in range(3)}
    assert hosting.Host(3, tmp_path)._register(register, again=True) == roster


def test_runs_of_a_killed_server_are_stopped_and_finished_ones_left_alone(tmp_path):
    hosting = pytest.importorskip("pfedmoap.flower.hosting", exc_type=ImportError)
    states = {"1": "finished:completed", "2": "pending", "3": "running", "4": "finished:failed", "5": "starting"}
    stopped = []

    class Links:
        def call(self, command):
            if command[:3] == ["flwr", "list", "own"]:
                return json.dumps({"runs": [{"run-id": run, "status": status} for run, status in states.items()]})
            assert command[:2] == ["flwr", "stop"] and command[3:] == ["own"]
            stopped.append(command[2])
            if command[2] == "3":
                raise PfedmoapError("it has ended meanwhile")

    hosting.Host(1, tmp_path)._stop_earlier_runs(Links())
    assert stopped == ["2", "3", "5"]


# A SuperLink that runs apps asked for: the first ends when the second is asked for, which takes a moment to start.
SUPERLINK = """
import pathlib, subprocess, sys, time
folder, app = pathlib.Path(sys.argv[1]), None
for number in (1, 2):
    while not (folder / f"asked {number}").exists():
        time.sleep(0.01)
    if app:
        app.kill()
        app.wait()
        time.sleep(1)
    code = f"open('progress.jsonl', 'a').write('{{\\"round\\": {number}}}\\\\n'); import time; time.sleep(60)"
    app = subprocess.Popen([sys.executable, "-c", code, "/bin/flwr-serverapp"], cwd=folder)
time.sleep(60)
"""


def test_one_run_after_another_is_not_taken_for_lost_before_it_has_begun(tmp_path, monkeypatch):
    hosting = pytest.importorskip("pfedmoap.flower.hosting", exc_type=ImportError)
    host = hosting.Host(1, tmp_path / "server")
    host.roster = {}
    came, calls = [], count(1)

    def on_line(line):
        came.append(line)
        if line["round"] == 1:
            raise InterruptedError
        psutil.Process(links.running[hosting.SUPERLINK].pid).children()[0].kill()

    with Links(tmp_path / "links") as links:
        monkeypatch.setattr(links, "call", lambda _: (host.folder / f"asked {next(calls)}").touch())
        links.start(hosting.SUPERLINK, [sys.executable, "-c", SUPERLINK, str(host.folder)])
        with pytest.raises(InterruptedError):
            host.run(Experiment("nature"), links, on_line)
        with pytest.raises(PfedmoapError, match="flwr-serverapp ended before the run did"):
            host.run(Experiment("nature"), links, on_line)
    assert came == [{"round": 1}, {"round": 2}]


def test_a_kill_between_the_two_halves_of_a_key_makes_it_anew(tmp_path):
    hosting = pytest.importorskip("pfedmoap.flower.hosting", exc_type=ImportError)
    (hosting.Host(1, tmp_path).invitation(0) / "node.pub").unlink()
    assert (hosting.Host(1, tmp_path).invitation(0) / "node.pub").is_file()


def test_no_telemetry_one_thread_and_private_logs(tmp_path):
    with Links(tmp_path / "links") as links:
        environment = links.environment()
        family_of(links)
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0" and environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert environment["FLWR_HOME"].startswith(str(tmp_path)) and environment["OMP_NUM_THREADS"] == "1"
    assert stat.S_IMODE((tmp_path / "links").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "links/logs/one.log").stat().st_mode) == 0o600


def test_a_private_file_is_private_from_its_first_byte_on(tmp_path):
    write_atomically(tmp_path / "key", b"secret", 0o600)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_certificates_verify_for_the_servers_address_and_for_no_other(tmp_path):
    keys = pytest.importorskip("pfedmoap.flower.keys", exc_type=ImportError)
    from cryptography import x509

    keys.make_server_certificate(tmp_path, "fl.example.org")
    ca, server = (x509.load_pem_x509_certificate((tmp_path / name).read_bytes()) for name in ("ca.pem", "server.pem"))
    server.verify_directly_issued_by(ca)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "fl.example.org"]
    keys.make_node_key(tmp_path / "node")
    assert (tmp_path / "node/node.pub").read_text().startswith("ecdsa-sha2-nistp384 ")
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in tmp_path.rglob("*.*") if path.is_file())


@pytest.mark.parametrize("arguments, complaint", [
    (["demo"], "pip install 'pfedmoap[federated]'"),
    (["client", "nowhere"], "pip install 'pfedmoap[federated]'"),
])
def test_without_flower_the_commands_name_the_remedy(arguments, complaint, tmp_path):
    """An empty package of Flower's name stands before the installed one, if there is one."""
    (tmp_path / "flwr").mkdir()
    (tmp_path / "flwr/__init__.py").touch()
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, "-m", "pfedmoap", "federate", *arguments], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 2 and complaint in done.stderr and "Traceback" not in done.stderr
