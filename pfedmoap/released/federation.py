"""The round loop as in the released code: the plain one, with the protocol's switches that change it (SPEC 9)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from pfedmoap.client import Cohort, FederatedData, Recipe, Trained
from pfedmoap.federation import Federation, Plan, Update
from pfedmoap.gating import gate_of
from pfedmoap.method import Context, Method
from pfedmoap.methods import FedProx
from pfedmoap.randomness import generator
from pfedmoap.released.optimizer import SharedOptimizer
from pfedmoap.released.protocol import Protocol
from pfedmoap.server import Pool, Server, Tensors


def federation_for(method: Method, plan: Plan, data: FederatedData, context: Context, protocol: Protocol) -> Federation:
    """The plain federation if the protocol leaves the round loop as it is, else the one of the released code."""
    if protocol.fedprox_gradient == "detached" and isinstance(method, FedProx):
        method = DetachedFedProx(method.mu)
    changes = protocol.expert_selection, protocol.optimizer, protocol.round_order, protocol.precision
    if changes == ("nearest", "per_client", "synchronous", "fp32"):
        return Federation(method, plan, data, context)
    return ReleasedFederation(method, plan, data, context, protocol)


class DetachedFedProx(FedProx):
    """FedProx whose proximal term counts in the recorded loss but has no gradient (switch `fedprox_gradient`).

    Prompts and accuracies are PromptFL's bit for bit, whatever mu is.
    """

    def proximal_term(self, model: Tensors, fixed: Tensors) -> torch.Tensor:
        return super().proximal_term(model, fixed).detach()


class FixedOrderPool(Pool):
    """A pool that lends everyone the first K of one fixed order of clients (switch `expert_selection`)."""

    def __init__(self, order: Sequence[int]):
        super().__init__()
        self.order = order

    def nearest(self, client: int, count: int) -> list[int]:
        return [other for other in self.order if other in self.entries and other != client][:count]


def fixed_order(clients: int, seed: int) -> list[int]:
    """One random order of all clients, for every client and round of a run."""
    return generator(seed, "expert order").permutation(clients).tolist()


def in_turn(clients: Iterable[int], seed: int, round: int) -> list[int]:
    """The order in which a round's clients take their turns."""
    return generator(seed, "turns", round).permutation(list(clients)).tolist()


class ReleasedFederation(Federation):
    """A federation whose clients may take turns: at one optimiser, and in sequence at one pool and one gate.

    Attributes:
        shared_optimizer: the switch `optimizer`; None: every client has its own.
        sequential: the switch `round_order`: clients see what earlier ones of the round have just sent.
        last_gate: the gate that was trained last, with which a client without one begins (if sequential).
        dtype: of everything that is trained and sent (switch `precision`).
    """

    def __init__(self, method: Method, plan: Plan, data: FederatedData, context: Context, protocol: Protocol):
        super().__init__(method, plan, data, context)
        self.shared_optimizer = SharedOptimizer() if protocol.optimizer == "shared" else None
        self.sequential = protocol.round_order == "sequential"
        self.last_gate: Tensors = {}
        self.dtype = torch.float16 if protocol.precision == "fp16" else torch.float32
        self.server.shared = {name: tensor.to(self.dtype) for name, tensor in self.server.shared.items()}
        if protocol.expert_selection == "fixed_order":
            self.server.pool = FixedOrderPool(fixed_order(data.clients, context.seed))

    @property
    def one_by_one(self) -> bool:
        return self.sequential or self.shared_optimizer is not None

    def downloads(self, clients: Iterable[int]) -> Mapping[int, Tensors]:
        if self.one_by_one:
            clients = in_turn(clients, self.context.seed, self.server.round)
        return _AsTheyCome(self.method, self.server, clients) if self.sequential else super().downloads(clients)

    def cohorts(
        self, downloads: Mapping[int, Tensors], number: int, recipe: Recipe | None = None
    ) -> Iterator[Cohort]:
        if not self.one_by_one:
            yield from super().cohorts(downloads, number, recipe)
            return
        for client in downloads:
            yield from super().cohorts({client: downloads[client]}, number, recipe)

    def start(self, client: int, download: Tensors) -> Tensors:
        return {name: tensor.to(self.dtype) for name, tensor in super().start(client, download).items()}

    def kept(self, client: int) -> Tensors:
        return self.last_gate | super().kept(client)  # without a gate of its own, the one that was trained last

    def train_cohort(self, cohort: Cohort) -> Trained:
        if self.shared_optimizer is None:
            return super().train_cohort(cohort)
        return self.shared_optimizer.train(cohort, self.plan.recipe.epochs)

    def upload(self, cohort: Cohort, trained: Trained, number: int) -> list[Update]:
        updates = super().upload(cohort, trained, number)
        if self.sequential:
            self.cache({update.client: update.upload for update in updates})
            self.last_gate |= gate_of(self.personal[updates[0].client])
        return updates

    def snapshot(self) -> tuple[Tensors, dict[str, Any]]:
        tensors, state = super().snapshot()
        tensors |= {f"last_gate/{name}": tensor for name, tensor in self.last_gate.items()}
        if self.shared_optimizer is not None:
            tensors |= {f"shared_momentum/{name}": tensor for name, tensor in self.shared_optimizer.momentum.items()}
            state["shared_epochs"] = self.shared_optimizer.epochs
        return tensors, state

    def restore(self, tensors: Tensors, state: dict[str, Any]) -> None:
        super().restore(tensors, state)
        for path, tensor in tensors.items():
            match path.split("/"):
                case ["last_gate", name]:
                    self.last_gate[name] = tensor
                case ["shared_momentum", name]:
                    self.shared_optimizer.momentum[name] = tensor
        if self.shared_optimizer is not None:
            self.shared_optimizer.epochs = state["shared_epochs"]


class _AsTheyCome(Mapping[int, Tensors]):
    """Downloads that are made when their client's turn comes, and then stay as they were."""

    def __init__(self, method: Method, server: Server, clients: Iterable[int]):
        self.method, self.server, self.clients = method, server, list(clients)
        self.made: dict[int, Tensors] = {}

    def __getitem__(self, client: int) -> Tensors:
        if client not in self.made:
            self.made[client] = self.method.download(self.server, client)
        return self.made[client]

    def __iter__(self) -> Iterator[int]:
        return iter(self.clients)

    def __len__(self) -> int:
        return len(self.clients)
