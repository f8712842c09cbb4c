"""What an implementation is audited through: five functions, and what it claims of itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from torch import Tensor

from pfedmoap.audit.case import Case
from pfedmoap.client import Recipe
from pfedmoap.server import Tensors


class Lent(NamedTuple):
    """How a server lends neighbours: as the rows of a received tensor.

    Attributes:
        received: name of the received tensor, (K, ...), nearest first.
        upload: name of the uploaded tensor that its rows are copies of.
        most: K.
    """

    received: str
    upload: str
    most: int


@dataclass(frozen=True)
class Claims:
    """What an implementation says of itself, by the names of its tensors; the checks hold it to that.

    Attributes:
        averaged: uploads that the server averages, weighted by the clients' numbers of training images; what clients
            receive next goes by the same name.
        personal: names, or beginnings of names, of trained tensors that never leave the client.
        lent: how neighbours are lent; None: nobody lends.
        own_rates: learning rates, by beginnings of names, of what does not train at the recipe's.
        optimizer: "restarts" with every round, momentum and schedule, or "continues".
        last_batch: an epoch's incomplete last batch is "dropped" or "kept".
        sgd: whether a step is SGD's. If not, the checks that read gradients off a step do not apply.
        documented: check -> why it is expected to fail; such a failure is reported "as documented".
    """

    averaged: tuple[str, ...] = ()
    personal: tuple[str, ...] = ()
    lent: Lent | None = None
    own_rates: Mapping[str, float] = field(default_factory=dict)
    optimizer: str = "restarts"
    last_batch: str = "dropped"
    sgd: bool = True
    documented: Mapping[str, str] = field(default_factory=dict)


class Step(NamedTuple):
    """A client's part of a round.

    Attributes:
        received: what the server sent to this client, by name: these very tensors, not copies.
        before: every trained tensor before the first step.
        after: the same ones after the last step.
        loss: the mean over the steps of the loss that each step descends, before it.
    """

    received: Tensors
    before: Tensors
    after: Tensors
    loss: float


class Adapter(Protocol):
    """Five functions around an implementation. An audit calls them like this, many times, with small changes::

        adapter.start(case)
        for round in ...:
            for client in clients:
                adapter.local_step(client, recipe)
            adapter.aggregate({client: adapter.upload(client) for client in clients})
        adapter.predict(client, images)

    Nothing else is asked for: no loss function, no optimiser, no model. What is tested is what the functions return.
    Let them call the code that makes your tables, and copy none of it: a fault in a copy is not in the code.
    """

    claims: Claims

    def start(self, case: Case) -> None:
        """Begins a new run and forgets any earlier one. Randomness is to come from `case.seed`.

        Read images, labels, names and every client's rows from the case in the way that the code reads its data.
        """

    def local_step(self, client: int, recipe: Recipe, before: Tensors | None = None) -> Step:
        """The client receives what the server has for it and trains by the recipe; its upload and what it keeps wait.

        A round is open until `aggregate`. Until then a client may be called again, and starts again from what the
        server has for it.

        Args:
            before: tensors, by name, to put in the place of the client's own right before its first step. What the loss
                is anchored at, such as the global prompt of a proximal term, stays as it was received.
        """

    def upload(self, client: int) -> Tensors:
        """What the client sends after its local step, by name."""

    def aggregate(self, uploads: Mapping[int, Tensors]) -> None:
        """Ends the round on the server with these uploads, which may be changed ones, of some clients or all.

        Selection on test accuracy, fine-tuning after the last round, or whatever else the code does then, belongs here.
        """

    def predict(self, client: int, images: Tensor) -> Tensor:
        """Class scores of the model that the client is tested with now: (B, d) -> (B, C), before round 1, too."""
