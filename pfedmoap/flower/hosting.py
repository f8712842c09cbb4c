"""The server's side of a federation on Flower: its folder, its SuperLink, and runs of experiments on it."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pfedmoap.errors import PfedmoapError, UserError
from pfedmoap.experiments import Experiment, Place, Record, Store
from pfedmoap.flower.ingest import NORM_LIMIT
from pfedmoap.flower.keys import make_node_key, make_server_certificate
from pfedmoap.flower.links import EXECUTOR, LOOPBACK, Links, free_port, wait_until_free
from pfedmoap.flower.settings import VARIABLE, ServerSettings
from pfedmoap.system import PRIVATE_FILE, private_folder, write_atomically

APP = """[project]
name = "pfedmoap-federation"
version = "1.0.0"
dependencies = []

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "pfedmoap"

[tool.flwr.app.components]
serverapp = "federation.server:app"
clientapp = "federation.client:app"

[tool.flwr.app.config]
experiment = {experiment}
"""
SUPERLINK = "superlink"
APP_OF_SERVER = "flwr-serverapp"  # the program that Flower runs `server_app` in


class Host:
    """A server in a private folder that holds all it needs to go on after it was killed.

    The folder: ca.pem, server.pem, server.key (TLS); nodes/client-N, what client N's machine is given (its key, the
    authority's certificate, the server's address); records (checkpoint, then the record); logs.

    Args:
        clients: how many there are.
        folder: as it was left by the last start, or to be made.
        host, port: where to listen; the port is that of the last start, or any free one.
    """

    def __init__(
        self, clients: int, folder: Path, place: Place = Place(), host: str = LOOPBACK, port: int | None = None
    ):
        self.clients, self.folder, self.place = clients, private_folder(folder.absolute()), place
        self.host = host
        address = self.folder / "address.json"
        if not address.is_file():
            make_server_certificate(self.folder, host)
            write_atomically(address, json.dumps([host, port or free_port(host)]).encode(), PRIVATE_FILE)
        known, self.port = json.loads(address.read_text())
        if known != host or port not in (None, self.port):
            raise UserError(f"{self.folder} is for a server at {known}:{self.port}, which its certificate and the "
                            f"nodes know: leave --host and --port as they were, or choose another folder.")
        self.store = Store(private_folder(self.folder / "records"))
        self.settings_file = self.folder / "server.json"
        self.progress = self.folder / "progress.jsonl"
        for client in range(clients):
            self._invite(client)

    def start(self, links: Links) -> None:
        """Starts the SuperLink with TLS and node authentication, and tells it the nodes' keys."""
        wait_until_free(self.host, self.port)
        database = self.folder / "superlink.db"
        again = database.is_file()
        links.start(SUPERLINK, [
            "flower-superlink", "--host", self.host, "--port", str(self.port),
            "--ssl-ca-certfile", str(self.folder / "ca.pem"), "--ssl-certfile", str(self.folder / "server.pem"),
            "--ssl-keyfile", str(self.folder / "server.key"), "--enable-supernode-auth",
            "--database", str(database), "--disable-runtime-dependency-installation",
        ], **{VARIABLE: str(self.settings_file)})  # fmt: skip
        links.wait_for(SUPERLINK, self.host, self.port)
        (private_folder(links.folder / "flwr") / "config.toml").write_text(
            f'[superlink]\ndefault = "own"\n\n[superlink.own]\naddress = "{self.host}:{self.port}"\n'
            f'root-certificates = "{self.folder / "ca.pem"}"\n')
        links.lost(SUPERLINK, EXECUTOR)  # has seen it from now on
        if again:
            self._stop_earlier_runs(links)
        self.roster = self._register(links, again)

    def run(
        self, experiment: Experiment, links: Links, on_line: Callable[[dict[str, Any]], None],
        meanwhile: Callable[[], object] = lambda: None, **options: Any,
    ) -> Record:  # fmt: skip
        """Runs an experiment, from its checkpoint if there is one, and returns its record.

        Args:
            on_line: called with every line of progress: a round, or what went wrong.
            meanwhile: called again and again.
            options: see `ServerSettings`.

        Raises:
            PfedmoapError: it failed; the checkpoint stays.
        """
        self.progress.unlink(missing_ok=True)
        ServerSettings(str(self.store.folder), str(self.progress), self.roster, self.place,
                       **{"norm_limit": NORM_LIMIT} | options).write(self.settings_file)
        links.overlook(SUPERLINK, APP_OF_SERVER)  # of the run before, which may still be ending
        links.call(["flwr", "run", str(self._app(experiment)), "own"])
        for line in self._lines(links, meanwhile):
            if "failed" in line:
                raise PfedmoapError(line["failed"])
            if "finished" in line:
                break
            on_line(line)
        return self.store.get(experiment)

    def invitation(self, client: int) -> Path:
        """The folder that a client's machine needs."""
        return self.folder / "nodes" / f"client-{client}"

    def _invite(self, client: int) -> None:
        folder = private_folder(self.invitation(client))
        if not (folder / "node.pub").is_file():  # which is written last
            make_node_key(folder)
        write_atomically(folder / "ca.pem", (self.folder / "ca.pem").read_bytes(), PRIVATE_FILE)
        told = {"client": client, "superlink": f"{self.host}:{self.port}"}
        write_atomically(folder / "node.json", json.dumps(told).encode(), PRIVATE_FILE)

    def _register(self, links: Links, again: bool) -> dict[int, int]:
        """Flower's node id -> client; a key is registered once, as the SuperLink's database remembers it.

        Args:
            again: the database is that of an earlier start, which may have been killed between the two notes.
        """
        path = self.folder / "roster.json"
        known = json.loads(path.read_text()) if path.is_file() else {}
        missing = [client for client in range(self.clients) if str(client) not in known]
        unnoted = self._registered(links) - set(known.values()) if missing and again else set()
        for client in missing:
            key = str(self.invitation(client) / "node.pub")
            # Keys are registered one after the other, so that an id that nobody has noted is the next client's.
            known[str(client)] = unnoted.pop() if unnoted else json.loads(links.call(
                ["flwr", "supernode", "register", key, "own", "--format", "json"]))["node-id"]
            write_atomically(path, json.dumps(known).encode(), PRIVATE_FILE)
        return {int(node): int(client) for client, node in known.items()}

    def _stop_earlier_runs(self, links: Links) -> None:
        """Of starts that were killed: the SuperLink's database has them, and would run them beside the new one."""
        for run in json.loads(links.call(["flwr", "list", "own", "--format", "json"]))["runs"]:
            if not run["status"].startswith("finished"):
                with suppress(PfedmoapError):  # it has ended meanwhile
                    links.call(["flwr", "stop", str(run["run-id"]), "own"])

    def _registered(self, links: Links) -> set[int]:
        """The ids of all nodes whose keys the SuperLink's database has."""
        answer = json.loads(links.call(["flwr", "supernode", "list", "own", "--format", "json"]))
        return {int(node["node-id"]) for node in answer["nodes"]}

    def _app(self, experiment: Experiment) -> Path:
        """The folder of the app that Flower sends to the nodes: the experiment, and where its code is installed."""
        folder = private_folder(self.folder / "app")
        package = private_folder(folder / "federation")
        text = APP.format(experiment=json.dumps(json.dumps(experiment.to_dict())))  # a JSON string is a TOML string
        (folder / "pyproject.toml").write_text(text)
        (package / "__init__.py").write_text("")
        for side in ("server", "client"):
            (package / f"{side}.py").write_text(f"from pfedmoap.flower import {side}_app\n\napp = {side}_app.app\n")
        return folder

    def _lines(self, links: Links, meanwhile: Callable[[], object]) -> Iterator[dict[str, Any]]:
        """The lines of the progress file, as they come, for as long as the SuperLink and what it started run."""
        read = 0
        while True:
            lost = links.lost(SUPERLINK, EXECUTOR, APP_OF_SERVER)  # before its last line is read
            lines = self.progress.read_text().splitlines(keepends=True) if self.progress.is_file() else []
            for line in lines[read:]:
                if line.endswith("\n"):
                    read += 1
                    yield json.loads(line)
            if lost:
                raise PfedmoapError(f"The server's {lost} ended before the run did; what is finished is kept, run the "
                                    f"same again to go on. {links.tail(SUPERLINK)}")
            meanwhile()
            time.sleep(0.2)
