"""A client's side of a federation on Flower: its SuperNode."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from pfedmoap.errors import UserError
from pfedmoap.experiments import Place
from pfedmoap.flower.links import EXECUTOR, LOOPBACK, Links, free_port
from pfedmoap.system import private_folder

# A node that was killed is connected to its server for up to a minute more, in which no other may have its key.
STILL_CONNECTED, FOR_AT_MOST, PAUSE = "Failed to activate SuperNode", 120.0, 5.0  # in its log; seconds


def join(links: Links, invitation: Path, state: Path, place: Place = Place()) -> str:
    """Starts the SuperNode of the client that an invitation is for; returns the process's name.

    Args:
        invitation: the folder that the server made for this client.
        state: folder of what the client keeps.

    Raises:
        UserError: the folder is no invitation.
    """
    invitation = invitation.absolute()
    try:
        told = json.loads((invitation / "node.json").read_text())
    except FileNotFoundError as error:
        raise UserError(f"{invitation} is no client's folder: give the one that the server has made, nodes/client-N in "
                        f"its own folder.") from error
    name = f"client-{told['client']}"
    config = {"client": told["client"], "state": str(private_folder(state.absolute()))}
    config |= {"data-root": str(Path(place.data_root).absolute())} if place.data_root else {}
    config |= {"cache": str(Path(place.cache).absolute())} if place.cache else {}
    links.start(name, [
        "flower-supernode", "--superlink", told["superlink"], "--root-certificates", str(invitation / "ca.pem"),
        "--auth-supernode-private-key", str(invitation / "node.key"),
        "--host", LOOPBACK, "--port", str(free_port(LOOPBACK)),
        "--node-config", " ".join(f"{key}={json.dumps(value)}" for key, value in config.items()),
    ])  # fmt: skip
    return name


class Node:
    """A client's SuperNode, which starts anew while the server takes an earlier one for connected.

    Args:
        links, invitation, state, place: see `join`.
        say: is told once that it waits for that.
    """

    def __init__(self, links: Links, invitation: Path, state: Path, place: Place, say: Callable[[str], None]):
        self._join = lambda: join(links, invitation, state, place)
        self._links, self._say = links, say
        self._until, self._refused = time.monotonic() + FOR_AT_MOST, 0.0
        self.name = self._join()

    def lost(self) -> str | None:
        """Which of its programs has ended, if it is not to start anew; to be asked every second or so."""
        lost, now = self._links.lost(self.name, EXECUTOR), time.monotonic()
        if lost != self.name or now > self._until or STILL_CONNECTED not in self._links.tail(self.name, 4000):
            return lost
        if not self._refused:
            self._say(f"the server still takes an earlier {self.name} for connected, which was killed: trying again, "
                      f"for a minute or so")
        if now > self._refused + PAUSE:
            self._refused = now
            self._join()
        return None
