"""The round loop (algorithm 1, ServerExecute): select, lend, update, cache, average, test."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from pfedmoap.client import Cohort, FederatedData, Recipe, Trained, count_steps, draw_batches
from pfedmoap.errors import PfedmoapError
from pfedmoap.evaluation import alike, chunks, evaluate, stack
from pfedmoap.method import Context, Method
from pfedmoap.privacy import Privacy, add_noise, sensitivity
from pfedmoap.randomness import generator
from pfedmoap.server import Pool, Server, Tensors, size_of


@dataclass(frozen=True)
class Plan:
    """How a federation runs.

    Attributes:
        rounds: T; participation: r, the share of clients that train in a round.
        recipe: the clients' local training.
        privacy: what uploads are protected by; None: nothing. (The recipe's `clip` must be the same.)
        cohort_bytes: memory for the training step of one cohort.
    """

    rounds: int
    participation: float
    recipe: Recipe
    privacy: Privacy | None = None
    cohort_bytes: int = 2 * 2**30


@dataclass
class Round:
    """What happened in one round; per-client lists are in client order.

    Attributes:
        number: t, from 1.
        selected: S_t, the clients that trained.
        losses: client -> mean training loss over its steps.
        accuracies: every client's accuracy on its private test set, 0 to 1, after the round; None, in a real federation
            (`pfedmoap.flower`), if it was not reached.
        diagnostics: the method's own numbers, such as pFedMoAP's attention_entropy.
        bytes_up, bytes_down: client -> bytes that it sent and received.
        sigmas: client -> standard deviation of the noise on its upload, with differential privacy.
        seconds: wall time of training and of evaluation.
    """

    number: int
    selected: list[int]
    losses: dict[int, float] = field(default_factory=dict)
    accuracies: list[float | None] = field(default_factory=list)
    diagnostics: dict[str, float] = field(default_factory=dict)
    bytes_up: dict[int, int] = field(default_factory=dict)
    bytes_down: dict[int, int] = field(default_factory=dict)
    sigmas: dict[int, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Unweighted mean over clients (section 4.2), in a real federation over those that were reached."""
        return float(np.mean([accuracy for accuracy in self.accuracies if accuracy is not None]))

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "Round":
        """A round as it was before JSON turned its client ids into strings."""
        by_client = ("losses", "bytes_up", "bytes_down", "sigmas")
        numbered = {name: {int(client): value for client, value in entry[name].items()} for name in by_client}
        return cls(**entry | numbered)


@dataclass(frozen=True)
class Update:
    """A client's local update as its server sees it.

    Attributes:
        client: its id.
        upload: what it sends.
        loss: its mean training loss over its steps.
        sigma: standard deviation of the noise on the upload; None without differential privacy.
    """

    client: int
    upload: Tensors
    loss: float
    sigma: float | None = None


class Federation:
    """One federated run in progress: the server, and all clients or (`pfedmoap.flower`) only one side of it.

    Attributes:
        server: the shared tensors and the pool.
        personal: client -> what it keeps between rounds and never sends.
        momentum: client -> optimiser state, for methods that keep it.
        epochs: local epochs that each client has trained so far.
        history: the finished rounds.
    """

    def __init__(self, method: Method, plan: Plan, data: FederatedData, context: Context):
        self.method, self.plan, self.data, self.context = method, plan, data, context
        self.server = Server(method.initial_shared(context), Pool(), data.clients, context.seed)  # lines 1 and 2
        self.personal: dict[int, Tensors] = {client: {} for client in range(data.clients)}
        self.momentum: dict[int, Tensors] = {}
        self.epochs = [0] * data.clients
        self.history: list[Round] = []

    # --- algorithm 1

    def rounds(self) -> Iterator[Round]:
        """Runs the remaining rounds, yielding each when it is complete (line 3)."""
        while len(self.history) < self.plan.rounds:
            yield self.run_round()

    def run_round(self) -> Round:
        """One round of algorithm 1. All clients start from the state at the end of the last round ("in parallel")."""
        started, number = time.perf_counter(), len(self.history) + 1
        result = Round(number, self.sample(number))  # 1. select S_t (line 4)
        downloads = self.downloads(result.selected)  # 2. lend p_g and the K nearest prompts (lines 6, 9 and 10)
        updates = self.train(downloads, number)  # 3. ClientUpdate, each client on its own images (lines 7 and 11)
        uploads = self.collect(result, downloads, updates)  # 4. upload P_i, and nothing else
        self.cache(uploads)  # 5. replace the clients' prompts in the pool (line 12, equation 7)
        self.average(uploads)  # 6. p_g <- average of the uploads, weighted by n_i (line 14, equation 6)
        if self.fine_tunes(number):
            self.fine_tune(self.final_downloads(result), number)
        self.test(result, time.perf_counter() - started)  # 7. every client's personal model on its test set (line 17)
        return result

    def sample(self, number: int) -> list[int]:
        """S_t: max(1, floor(r N)) clients without replacement, ascending."""
        everyone = self.data.clients
        if self.method.everyone:
            return list(range(everyone))
        count = max(1, int(self.plan.participation * everyone + 1e-9))  # 0.29 * 100 is 28.999...
        return sorted(generator(self.context.seed, "sample", number).choice(everyone, count, replace=False).tolist())

    def downloads(self, clients: Iterable[int]) -> Mapping[int, Tensors]:
        """What the server sends to each of the clients, as it is now."""
        return {client: self.method.download(self.server, client) for client in clients}

    def train(self, downloads: Mapping[int, Tensors], number: int) -> list[Update]:
        """Round `number` on the clients: each trains from what it has downloaded and keeps what stays with it."""
        return [update for cohort in self.cohorts(downloads, number)
                for update in self.upload(cohort, self.train_cohort(cohort), number)]

    def collect(self, result: Round, downloads: Mapping[int, Tensors], updates: Iterable[Update]) -> dict[int, Tensors]:
        """Notes in the round what went to and fro; returns the uploads."""
        updates = list(updates)
        result.losses = {update.client: update.loss for update in updates}
        result.sigmas = {update.client: update.sigma for update in updates if update.sigma is not None}
        result.bytes_down = {client: size_of(download) for client, download in downloads.items()}
        result.bytes_up = {update.client: size_of(update.upload) for update in updates}
        return {update.client: update.upload for update in updates}

    def cache(self, uploads: Mapping[int, Tensors]) -> None:
        """Enters the round's uploads in the pool, for methods that have one."""
        self.method.enter(self.server, uploads)

    def average(self, uploads: Mapping[int, Tensors]) -> None:
        """Makes the global tensors from the round's uploads; what is downloaded from now on is for the next round."""
        self.method.aggregate(self.server, uploads, self.sizes(uploads))
        self.server.round += 1

    def sizes(self, clients: Iterable[int]) -> dict[int, int]:
        """n_i, the clients' numbers of training images."""
        return {client: len(self.data.train_rows[client]) for client in clients}

    def test(self, result: Round, seconds: float) -> None:
        """Tests all clients and ends the round, which took so many seconds to train."""
        started = time.perf_counter()
        tests = evaluate(self.method, self.server, self.personal, self.data, self.context)
        result.accuracies, result.diagnostics = list(tests.accuracies), tests.diagnostics
        result.seconds = {"train": seconds, "evaluate": time.perf_counter() - started}
        self.history.append(result)

    # --- ClientUpdate

    def cohorts(
        self, downloads: Mapping[int, Tensors], number: int, recipe: Recipe | None = None
    ) -> Iterator[Cohort]:
        """The clients, ready for their local update by the recipe (None: the plan's), cohort by cohort.

        Clients of a cohort train alike, longest first, as many as the memory allows. Each is made when it is asked for.
        """
        recipe = recipe or self.plan.recipe
        starts = {client: self.start(client, download) for client, download in downloads.items()}
        steps = {client: count_steps(size, recipe) for client, size in self.sizes(starts).items()}
        groups = [sorted(group, key=lambda client: -steps[client]) for group in alike(starts, starts)]
        for clients in chunks(sorted(groups, key=lambda group: tuple(starts[group[0]])), self.cohort_size):
            if starts[clients[0]]:  # else there is nothing to train
                yield self._cohort(clients, starts, downloads, number, recipe)

    def start(self, client: int, download: Tensors) -> Tensors:
        """What the client trains, before its first step; by name, as it is after a restart, too."""
        return dict(sorted(self.method.start(download, self.kept(client), client, self.context).items()))

    def kept(self, client: int) -> Tensors:
        """What a client has of its own before it trains."""
        return self.personal[client]

    def train_cohort(self, cohort: Cohort) -> Trained:
        """The local update itself; each client has an optimiser of its own."""
        return cohort.train()

    def upload(self, cohort: Cohort, trained: Trained, number: int) -> list[Update]:
        """What each client of a trained cohort sends, with noise if need be; what it keeps stays in `personal`."""
        updates = []
        for client, model, loss in self._finish(cohort, trained, number):
            upload, sigma = self.method.upload(model), None
            if self.plan.privacy:
                sigma = self.sigma(client)
                upload = add_noise(upload, sigma, self.context.seed, number, client)
                model |= upload if self.plan.privacy.tested == "uploaded" else {}
            self.personal[client] = self.method.keep(model)
            self.epochs[client] += self.plan.recipe.epochs
            updates.append(Update(client, upload, loss, sigma))
        return updates

    def fine_tunes(self, number: int) -> bool:
        """Whether every client trains once more, for itself, after round `number`: after the last, by some methods."""
        return self.method.fine_tuning_epochs > 0 and number == self.plan.rounds

    def final_downloads(self, result: Round) -> Mapping[int, Tensors]:
        """What every client fine-tunes; it counts among what was sent in the last round."""
        downloads = self.downloads(range(self.data.clients))
        for client, download in downloads.items():
            result.bytes_down[client] = result.bytes_down.get(client, 0) + size_of(download)
        return downloads

    def fine_tune(self, downloads: Mapping[int, Tensors], number: int) -> None:
        """After the last round, `number`, the clients train what they would download now, each for itself."""
        for cohort in self.cohorts(downloads, number + 1, self.final_recipe):
            self.keep_final(cohort, self.train_cohort(cohort), number + 1)

    @property
    def final_recipe(self) -> Recipe:
        return replace(self.plan.recipe, epochs=self.method.fine_tuning_epochs)

    def keep_final(self, cohort: Cohort, trained: Trained, number: int) -> list[None]:
        """What the clients of a cohort keep after the fine-tuning; nothing is sent."""
        for client, model, _ in self._finish(cohort, trained, number):
            self.personal[client] = self.method.keep_final(model)
        return []

    def sigma(self, client: int) -> float:
        """Standard deviation of the noise that privacy puts on a client's upload; 0 without privacy."""
        if self.plan.privacy is None:
            return 0.0
        recipe = self.plan.recipe
        steps = count_steps(len(self.data.train_rows[client]), recipe)
        reach = sensitivity(steps, recipe.lr, self.plan.privacy.clip, recipe.momentum)
        return self.plan.privacy.sigma(reach, uploads=self.plan.rounds)

    @property
    def cohort_size(self) -> int:
        """Clients that the memory for a cohort allows, at least one."""
        return max(1, self.plan.cohort_bytes // self.context.text.encoder.bytes_per_prompt())

    def _cohort(
        self, clients: list[int], starts: dict[int, Tensors], downloads: Mapping[int, Tensors], number: int,
        recipe: Recipe,
    ) -> Cohort:  # fmt: skip
        method, data, device = self.method, self.data, self.data.train_labels.device
        start = stack([starts[client] for client in clients], device)
        fixed = method.fixed(start, [downloads[client] for client in clients], self.context)
        batches = draw_batches(
            clients, [data.train_rows[client] for client in clients], recipe, seed=self.context.seed, round=number,
            past_epochs=[self.epochs[client] for client in clients], views=len(data.train_features),
            total_epochs=self.plan.rounds * recipe.epochs if method.keeps_optimizer else None)
        kept = [self.momentum[client] for client in clients if client in self.momentum]
        return Cohort(tuple(clients), method, start, fixed, batches, data.train_features, data.train_labels, recipe,
                      self.context, stack(kept, device) if kept else None)

    def _finish(self, cohort: Cohort, trained: Trained, number: int) -> Iterator[tuple[int, Tensors, float]]:
        """Each client, its trained tensors on the CPU, and its mean loss."""
        for row, (client, loss) in enumerate(zip(cohort.clients, trained.losses.tolist(), strict=True)):
            if not math.isfinite(loss):
                raise PfedmoapError(f"The loss of client {client} became {loss} in round {number}: lower the "
                                    f"learning rate ({cohort.recipe.lr}), or check its images and features.")
            if self.method.keeps_optimizer:
                self.momentum[client] = _row(trained.momentum, row)
            yield client, _row(trained.tensors, row), loss

    # --- checkpoints

    def snapshot(self) -> tuple[Tensors, dict[str, Any]]:
        """Everything that the next round depends on: tensors by path, and plain data."""
        tensors = {f"shared/{name}": tensor for name, tensor in self.server.shared.items()}
        tensors |= {f"pool/{client}": prompt for client, prompt in self.server.pool.entries.items()}
        for kind, owners in (("personal", self.personal), ("momentum", self.momentum)):
            tensors |= {f"{kind}/{client}/{name}": tensor
                        for client, kept in owners.items() for name, tensor in kept.items()}
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
                case ["personal" | "momentum" as kind, client, name]:
                    getattr(self, kind).setdefault(int(client), {})[name] = tensor
        self.server.pool.restore(pool)
        self.server.round = len(state["history"]) + 1
        self.epochs = list(state["epochs"])
        self.history = [Round.from_json(entry) for entry in state["history"]]


def _row(tensors: Tensors, row: int) -> Tensors:
    """One client's tensors of a cohort's, on the CPU; copies, as views would hold the whole cohort's memory."""
    return {name: tensor[row].cpu().clone() for name, tensor in tensors.items()}
