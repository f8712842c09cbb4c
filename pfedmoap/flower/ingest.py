"""What the server lets in: an upload is judged before anything of it reaches the pool or the global prompt."""

import math
import statistics
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pfedmoap.federation import Update
from pfedmoap.flower.wire import Refused, unpack
from pfedmoap.server import Tensors

NORM_LIMIT = 10.0
LONGEST_NAME = 64


@dataclass(frozen=True)
class Incoming:
    """A client's reply as it arrived; nothing in it is believed.

    Attributes:
        sender: the client whose key the transport has verified.
        about: what the reply says of itself: "experiment" (its key), "round", "client"; with an upload "loss"; with a
            test "accuracy" and the method's diagnostics.
        arrays: tensors by name, as `wire.pack` makes them.
    """

    sender: int
    about: Mapping[str, Any]
    arrays: Mapping[str, bytes]


class Ingest:
    """Judges the uploads of one experiment, round by round.

    Refused is an upload of another experiment or round, a second one, and one from a client that was not asked or that
    uses another's name. So are tensors of other names, shapes, dtypes or sizes, numbers that are not finite, and a norm
    beyond a multiple of the pool's median. An upload that passes may still be poisoned within these bounds.

    Attributes:
        norms: client -> norm of each tensor that it last uploaded, for all methods, with a pool or without.
    """

    def __init__(self, experiment: str, norm_limit: float = NORM_LIMIT):
        """
        Args:
            experiment: the key of the experiment.
            norm_limit: how many times the median norm of the pool an upload may have.
        """
        self.experiment, self.norm_limit = experiment, norm_limit
        self.norms: dict[int, dict[str, float]] = {}
        self.open(0, "upload", ())

    def open(self, number: int, kind: str, clients: Collection[int]) -> None:
        """From now on one "upload" or "test" of each of these clients is awaited, for this round, and nothing else."""
        self._round, self._kind, self._awaited = number, kind, frozenset(clients)
        self._taken: set[int] = set()

    def upload(self, incoming: Incoming, templates: Tensors, noise: float = 0.0) -> Update:
        """A client's update, if it is sound; its client is not awaited any more.

        Args:
            templates: the tensors that are to be uploaded, as they are in the global model.
            noise: standard deviation of the noise that privacy puts on every number.

        Raises:
            Refused: for the reason given; the client may still send a sound one.
        """
        self._identify(incoming, "upload")
        loss = number(incoming.about, "loss")
        upload = unpack(incoming.arrays, templates)
        norms = {name: norm(tensor) for name, tensor in upload.items()}
        for name, own in norms.items():
            usual = self.usual_norm(name, templates, noise)
            if own > self.norm_limit * usual:
                raise Refused(f"the norm of {name}, {own:.3g}, is beyond {self.norm_limit:g} times the pool's median, "
                              f"{usual:.3g}")
        self._taken.add(incoming.sender)
        self.norms[incoming.sender] = norms
        return Update(incoming.sender, upload, loss, noise or None)

    def test(self, incoming: Incoming) -> tuple[float, dict[str, float]]:
        """A client's accuracy, 0 to 1, and the method's diagnostics.

        Raises:
            Refused: for the reason given.
        """
        self._identify(incoming, "test")
        accuracy = number(incoming.about, "accuracy")
        if not 0 <= accuracy <= 1:
            raise Refused(f"an accuracy of {accuracy:g}")
        names = [name for name in incoming.about if name not in ("experiment", "round", "client", "accuracy")]
        if any(not isinstance(name, str) or not name.isidentifier() or len(name) > LONGEST_NAME for name in names):
            raise Refused("diagnostics under names that are none")
        diagnostics = {name: number(incoming.about, name) for name in names}
        self._taken.add(incoming.sender)
        return accuracy, diagnostics

    def _identify(self, incoming: Incoming, kind: str) -> None:
        """Whether this is a reply that is awaited."""
        about, sender = incoming.about, incoming.sender
        for name, expected in (("experiment", self.experiment), ("round", self._round), ("client", sender)):
            if type(about.get(name)) is not type(expected) or about[name] != expected:
                raise Refused(f"it is for {name} {str(about.get(name))[:40]!r}, not {expected!r}")
        if kind != self._kind:
            raise Refused(f"{kind}s are not awaited now")
        if sender in self._taken:
            raise Refused("it is a duplicate")
        if sender not in self._awaited:
            raise Refused("the client was not asked in this round")

    def usual_norm(self, name: str, templates: Tensors, noise: float = 0.0) -> float:
        """Median norm over the clients' last uploads; before there are any, the norm in the global model; and noise.

        A global tensor of zeros is no measure: the first upload is then let in, whatever its norm.
        """
        known = [norms[name] for norms in self.norms.values() if name in norms]
        usual = statistics.median(known) if known else norm(templates[name]) or math.inf
        return usual + noise * math.sqrt(templates[name].numel())


def norm(tensor) -> float:
    return float(tensor.double().norm())


def number(about: Mapping[str, Any], name: str) -> float:
    """A finite number of a reply.

    Raises:
        Refused: it is missing or something else.
    """
    value = about.get(name)
    if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:
        raise Refused(f"its {name[:LONGEST_NAME]} is no finite number")
    return float(value)
