"""The round loop: sample, download, update, upload, evaluate (algorithm 1, ServerExecute)."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pfedmoap.client import Recipe, count_steps, draw_batches, local_update
from pfedmoap.errors import PfedmoapError
from pfedmoap.methods.base import Context, Method
from pfedmoap.randomness import generator
from pfedmoap.server import Pool, Server, Tensors

TEST_BATCH = 128


@dataclass(frozen=True)
class FederatedData:
    """Image features of the whole data set, and which rows each client owns.

    Attributes:
        train_features: (V, n, d) with V augmented views; test_features: (n', d).
        train_labels: (n,); test_labels: (n',), int64.
        train_rows, test_rows: one int64 array per client.
    """

    train_features: Tensor
    train_labels: Tensor
    test_features: Tensor
    test_labels: Tensor
    train_rows: Sequence[np.ndarray]
    test_rows: Sequence[np.ndarray]

    @property
    def clients(self) -> int:
        return len(self.train_rows)


@dataclass(frozen=True)
class Plan:
    """How a federation runs: rounds, share of clients per round, local recipe, memory for one cohort in bytes."""

    rounds: int
    participation: float
    recipe: Recipe
    cohort_bytes: int = 2 * 2**30


@dataclass
class Round:
    """What happened in one round; per-client lists are in client order.

    Attributes:
        number: from 1.
        selected: clients that trained.
        losses: client -> mean training loss over its steps.
        accuracies: every client's accuracy on its private test set, 0 to 1, after the round.
        bytes_up, bytes_down: client -> bytes that it sent and received.
        seconds: wall time of training and of evaluation.
    """

    number: int
    selected: list[int]
    losses: dict[int, float] = field(default_factory=dict)
    accuracies: list[float] = field(default_factory=list)
    bytes_up: dict[int, int] = field(default_factory=dict)
    bytes_down: dict[int, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Unweighted mean over clients (section 4.2)."""
        return float(np.mean(self.accuracies))


class Federation:
    """One federated run in progress.

    Attributes:
        server: the shared tensors and the pool.
        personal: client -> what it keeps between rounds and never sends.
        momentum: client -> optimiser state, for methods that keep it.
        epochs: local epochs that each client has trained so far.
        history: the finished rounds.
    """

    def __init__(self, method: Method, plan: Plan, data: FederatedData, context: Context):
        self.method, self.plan, self.data, self.context = method, plan, data, context
        self.server = Server(method.initial_shared(context), Pool())
        self.personal: dict[int, Tensors] = {client: {} for client in range(data.clients)}
        self.momentum: dict[int, Tensors] = {}
        self.epochs = [0] * data.clients
        self.history: list[Round] = []

    def rounds(self) -> Iterable[Round]:
        """Runs the remaining rounds, yielding each when it is complete."""
        while len(self.history) < self.plan.rounds:
            yield self.run_round()

    def run_round(self) -> Round:
        """One round: training of the selected clients, synchronously from the last round's state, and all tests."""
        started = time.perf_counter()
        result = Round(number := len(self.history) + 1, self.sample(number))
        downloads = {client: self.method.download(self.server, client) for client in result.selected}
        uploads = {}
        for cohort in self._cohorts(result.selected, downloads):
            uploads |= self._train(cohort, downloads, result)
        sizes = {client: len(self.data.train_rows[client]) for client in result.selected}
        self.method.aggregate(self.server, uploads, sizes)
        trained = time.perf_counter()
        result.accuracies = self.evaluate()
        result.bytes_down = {client: _size(download) for client, download in downloads.items()}
        result.bytes_up = {client: _size(upload) for client, upload in uploads.items()}
        result.seconds = {"train": trained - started, "evaluate": time.perf_counter() - trained}
        self.history.append(result)
        return result

    def snapshot(self) -> tuple[Tensors, dict[str, Any]]:
        """Everything that the next round depends on: tensors by path, and plain data."""
        tensors = {f"shared/{name}": tensor for name, tensor in self.server.shared.items()}
        tensors |= {f"pool/{client}": prompt for client, prompt in self.server.pool.entries.items()}
        for kind, owners in (("personal", self.personal), ("momentum", self.momentum)):
            tensors |= {f"{kind}/{client}/{name}": tensor
                        for client, own in owners.items() for name, tensor in own.items()}
        return tensors, {"epochs": self.epochs, "history": [asdict(entry) for entry in self.history]}

    def restore(self, tensors: Tensors, state: dict[str, Any]) -> None:
        """Goes on from a `snapshot`."""
        pool = {}
        for path, tensor in tensors.items():
            match path.split("/"):
                case ["shared", name]:
                    self.server.shared[name] = tensor
                case ["pool", client]:
                    pool[int(client)] = tensor
                case [kind, client, name]:
                    owners = self.personal if kind == "personal" else self.momentum
                    owners.setdefault(int(client), {})[name] = tensor
        self.server.pool = Pool(pool)
        self.epochs = list(state["epochs"])
        self.history = [Round(**_int_keys(entry)) for entry in state["history"]]

    def sample(self, number: int) -> list[int]:
        """S_t: max(1, floor(r N)) clients without replacement, ascending."""
        everyone = self.data.clients
        if self.method.everyone:
            return list(range(everyone))
        count = max(1, int(self.plan.participation * everyone + 1e-9))  # 0.29 * 100 is 28.999...
        chosen = generator(self.context.seed, "sample", number).choice(everyone, count, replace=False)
        return sorted(chosen.tolist())

    def evaluate(self) -> list[float]:
        """Every client's accuracy with its personal model on its private test set (SPEC 4)."""
        everyone = range(self.data.clients)
        downloads = {client: self.method.download(self.server, client) for client in everyone}
        models = {client: self.method.tested(downloads[client], self.personal[client], client, self.context)
                  for client in everyone}
        correct = torch.zeros(self.data.clients)
        for cohort in _chunks(_alike(everyone, models), 16):
            model = self._stack([models[client] for client in cohort])
            fixed = self.method.fixed(model, [downloads[client] for client in cohort], self.context)
            correct[cohort] = self._count_correct(cohort, model, fixed)
        return (correct / torch.tensor([len(rows) for rows in self.data.test_rows])).tolist()

    @torch.no_grad()
    def _count_correct(self, cohort: list[int], model: Tensors, fixed: Tensors) -> Tensor:
        device = self.data.test_labels.device
        rows = [torch.from_numpy(self.data.test_rows[client]) for client in cohort]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)  # (clients, longest)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        correct = torch.zeros(len(cohort), device=device)
        for start in range(0, padded.shape[1], TEST_BATCH):
            at = padded[:, start : start + TEST_BATCH]  # (clients, B)
            present = torch.arange(start, start + at.shape[1], device=device) < lengths[:, None]
            logits = self.method.logits(model, fixed, self.data.test_features[at], self.context)  # (clients, B, C)
            correct += ((logits.argmax(-1) == self.data.test_labels[at]) & present).sum(1)
        return correct.cpu()

    def _cohorts(self, selected: list[int], downloads: dict[int, Tensors]) -> Iterable[list[int]]:
        """Clients that train alike, longest first, as many at once as the memory for a cohort allows."""
        steps = {client: count_steps(len(self.data.train_rows[client]), self.plan.recipe) for client in selected}
        starts = {client: self._start(client, downloads[client]) for client in selected}
        groups = [sorted(group, key=lambda client: -steps[client]) for group in _alike(selected, starts)]
        return _chunks(groups, max(1, self.plan.cohort_bytes // self.context.text.encoder.bytes_per_prompt()))

    def _start(self, client: int, download: Tensors) -> Tensors:
        return self.method.start(download, self.personal[client], client, self.context)

    def _train(self, cohort: list[int], downloads: dict[int, Tensors], result: Round) -> dict[int, Tensors]:
        """Trains one cohort, keeps what stays on its clients, and returns their uploads."""
        starts = [self._start(client, downloads[client]) for client in cohort]
        if not starts[0]:
            return {}
        method, plan, data = self.method, self.plan, self.data
        start = self._stack(starts)
        fixed = method.fixed(start, [downloads[client] for client in cohort], self.context)
        batches = draw_batches(
            cohort, [data.train_rows[client] for client in cohort], plan.recipe, seed=self.context.seed,
            round=result.number, past_epochs=[self.epochs[client] for client in cohort],
            views=len(data.train_features),
            total_epochs=plan.rounds * plan.recipe.epochs if method.keeps_optimizer else None)
        momentum = self._stack([self.momentum[client] for client in cohort]) if cohort[0] in self.momentum else None
        trained = local_update(method, start, fixed, batches, data.train_features, data.train_labels, plan.recipe,
                               self.context, momentum)
        return self._collect(cohort, trained, result)

    def _collect(self, cohort: list[int], trained, result: Round) -> dict[int, Tensors]:
        uploads = {}
        for row, (client, loss) in enumerate(zip(cohort, trained.losses.tolist(), strict=True)):
            if not np.isfinite(loss):
                raise PfedmoapError(f"The loss of client {client} became {loss} in round {result.number}: lower the "
                                    f"learning rate ({self.plan.recipe.lr}), or check its images and features.")
            own = {name: tensor[row].cpu() for name, tensor in trained.tensors.items()}
            self.personal[client] = self.method.keep(own)
            if self.method.keeps_optimizer:
                self.momentum[client] = {name: tensor[row].cpu() for name, tensor in trained.momentum.items()}
            uploads[client] = self.method.upload(own)
            result.losses[client] = loss
            self.epochs[client] += self.plan.recipe.epochs
        return uploads

    def _stack(self, parts: Sequence[Tensors]) -> Tensors:
        device = self.data.train_labels.device
        return {name: torch.stack([part[name] for part in parts]).to(device) for name in parts[0]}


def _alike(clients: Iterable[int], tensors: dict[int, Tensors]) -> list[list[int]]:
    """Groups clients whose tensors have the same names: with a gate, without one, ..."""
    groups: dict[tuple, list[int]] = {}
    for client in clients:
        groups.setdefault(tuple(tensors[client]), []).append(client)
    return list(groups.values())


def _chunks(groups: Iterable[list[int]], size: int) -> Iterable[list[int]]:
    return [group[at : at + size] for group in groups for at in range(0, len(group), size)]


def _int_keys(entry: dict[str, Any]) -> dict[str, Any]:
    """A round as it was before JSON turned its client ids into strings."""
    by_client = ("losses", "bytes_up", "bytes_down")
    return entry | {name: {int(client): value for client, value in entry[name].items()} for name in by_client}


def _size(tensors: Tensors) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())
