"""One client of a real federation: the same local update as in one process, for a cohort of one."""

from pathlib import Path

from pfedmoap.errors import PfedmoapError
from pfedmoap.evaluation import Evaluation, evaluate_clients
from pfedmoap.experiments import Experiment, Place, Prepared, prepare
from pfedmoap.federation import Update
from pfedmoap.flower.kept import Kept
from pfedmoap.server import Tensors


class Node:
    """A client with its data and what it keeps.

    Args:
        prepared: the experiment, with this client's images read.
        client: its id.
        folder: where it keeps its state, in a folder per experiment and client.
    """

    def __init__(self, prepared: Prepared, client: int, folder: Path):
        self.prepared, self.client = prepared, client
        self.federation = prepared.federation
        self.kept = Kept(folder / prepared.experiment.key / f"client-{client}")

    def train(self, download: Tensors, number: int) -> Update | None:
        """Round `number`: trains from what was downloaded, keeps what stays, returns the upload.

        Asked again for the same round, it starts from what it had before that round and returns the same.
        """
        self._restore(before=number)
        updates = self.federation.train({self.client: download}, number)
        self._save(number)
        return updates[0] if updates else None

    def evaluate(self, download: Tensors, number: int) -> Evaluation:
        """Tests the client after round `number`, given what it would download now; fine-tunes it first if need be."""
        federation = self.federation
        self._restore(before=number + 1)
        if federation.fine_tunes(number):
            federation.fine_tune({self.client: download}, number)
            self._save(number + 1)
        return evaluate_clients(
            federation.method, {self.client: download}, federation.personal, federation.data, federation.context)

    def _save(self, number: int) -> None:
        federation = self.federation
        owners = {"personal": federation.personal, "momentum": federation.momentum}
        tensors = {f"{kind}/{name}": tensor for kind, own in owners.items()
                   for name, tensor in own.get(self.client, {}).items()}
        self.kept.save(number, tensors, {"epochs": federation.epochs[self.client]} | self.prepared.identity)

    def _restore(self, before: int) -> None:
        """Everything as it was before a round, or as before the first one."""
        federation = self.federation
        tensors, state = self.kept.load(before) or ({}, self.prepared.identity | {"epochs": 0})
        for name, value in self.prepared.identity.items():
            if state.get(name) != value:
                raise PfedmoapError(f"What client {self.client} kept in {self.kept.folder} was made with another data "
                                    f"set or CLIP (its {name} is {state.get(name)}, not {value}): move that folder "
                                    f"away to start again.")
        own: dict[str, Tensors] = {"personal": {}, "momentum": {}}
        for path, tensor in tensors.items():
            kind, name = path.split("/", 1)
            own[kind][name] = tensor
        federation.personal[self.client] = own["personal"]
        federation.momentum.pop(self.client, None)
        if own["momentum"]:
            federation.momentum[self.client] = own["momentum"]
        federation.epochs[self.client] = state["epochs"]


def open_node(experiment: Experiment, client: int, folder: Path, place: Place = Place()) -> Node:
    """A node with this client's images alone.

    Raises:
        UserError: data or weights are missing or do not fit.
    """
    return Node(prepare(experiment, place, clients=[client]), client, folder)
