"""A client's side of a federation on Flower: its SuperNode."""

import json
from pathlib import Path

from pfedmoap.errors import UserError
from pfedmoap.experiments import Place
from pfedmoap.flower.keys import LOOPBACK
from pfedmoap.flower.links import Links, free_port
from pfedmoap.system import private_folder


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
