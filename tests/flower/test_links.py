"""What is started is stopped, with everything that it started in turn; and files are private."""

import os
import signal
import stat
import subprocess
import sys
import time

import psutil
import pytest

from pfedmoap.errors import PfedmoapError
from pfedmoap.flower import Links
from pfedmoap.flower.links import free_port
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
