"""Real processes on the loopback: a server and its nodes, with TLS and node authentication."""

import subprocess
import time

import psutil
import pytest

pytest.importorskip("flwr")

from pfedmoap.experiments import Place  # noqa: E402
from pfedmoap.flower import (
    Host,  # noqa: E402
    Links,  # noqa: E402
    join,  # noqa: E402
)

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

    def run(self, run, on_line=lambda line: None, timeout=TIMEOUT, **options):
        lines = []
        record = self.host.run(run, self.links, lambda line: [lines.append(line), on_line(line)],
                               round_timeout=timeout, patience=TIMEOUT, **options)
        return record, lines

    def family(self, name):
        first = psutil.Process(self.links.running[name].pid)
        return [first, *first.children(recursive=True)]

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
