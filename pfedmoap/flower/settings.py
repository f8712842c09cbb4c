"""What the server's and the nodes' apps are told by whoever starts them: private files and Flower's configurations."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pfedmoap.experiments import Place
from pfedmoap.flower.ingest import NORM_LIMIT
from pfedmoap.system import PRIVATE_FILE, write_atomically

VARIABLE = "PFEDMOAP_SERVER_SETTINGS"  # names the file in the environment of the server's app


@dataclass(frozen=True)
class ServerSettings:
    """What stays on the server.

    Attributes:
        store: folder of checkpoints and the record.
        progress: file that gets a line of JSON per round.
        roster: Flower's node id -> client, for the keys that were registered.
        place: where data lies; the server reads class names and numbers of images.
        round_timeout: seconds after which a round goes on without those that have not answered.
        patience: seconds that the first round waits for all nodes; it begins without those that are missing then.
        norm_limit: see `Ingest`.
        filter, filter_limit: see `protection.build_filter`.
    """

    store: str
    progress: str
    roster: dict[int, int]
    place: Place
    round_timeout: float = 3600.0
    patience: float = 600.0
    norm_limit: float = NORM_LIMIT
    filter: str = "none"
    filter_limit: float | None = None

    def write(self, path: Path) -> None:
        write_atomically(path, json.dumps(asdict(self)).encode(), PRIVATE_FILE)

    @classmethod
    def read(cls) -> "ServerSettings":
        """From the file that the environment names."""
        plain: dict[str, Any] = json.loads(Path(os.environ[VARIABLE]).read_text())
        roster = {int(node): client for node, client in plain.pop("roster").items()}
        return cls(**plain | {"roster": roster, "place": Place(**plain["place"])})

    def tell(self, **line: Any) -> None:
        """Adds a line to the progress file."""
        with open(self.progress, "a", opener=lambda name, flags: os.open(name, flags, PRIVATE_FILE)) as file:
            file.write(json.dumps(line) + "\n")
