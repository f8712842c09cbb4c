"""The round loop: sample, download, update, upload, evaluate (algorithm 1, ServerExecute)."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from pfedmoap.client import Recipe, count_steps, draw_batches
from pfedmoap.cohorts import Cohort, Training, alone, together
from pfedmoap.data.federated import FederatedData, in_one_table
from pfedmoap.errors import PfedmoapError
from pfedmoap.evaluation import alike, chunks, evaluate, stack
from pfedmoap.methods.base import Context, Method
from pfedmoap.privacy import add_noise, sensitivity
from pfedmoap.randomness import generator
from pfedmoap.rounds import Plan, Round, Update
from pfedmoap.server import Pool, Server, Tensors, fixed_order
from pfedmoap.turns import Turns, in_turn


class Federation:
    """One federated run in progress: the server, and all clients or (`pfedmoap.flower`) only one side of it.

    The server's side is `sample`, `downloads` and `take_in`, a client's `train` and `fine_tune`; `run_round` is both.

    Attributes:
        server: the shared tensors and the pool.
        personal: client -> what it keeps between rounds and never sends.
        momentum: client -> optimiser state, for methods that keep it.
        turns: what goes from client to client where they train one by one.
        epochs: local epochs that each client has trained so far.
        history: the finished rounds.
    """

    def __init__(self, method: Method, plan: Plan, data: FederatedData, context: Context):
        self.method, self.plan, self.data, self.context = method, plan, data, context
        shared = {name: tensor.to(plan.dtype) for name, tensor in method.initial_shared(context).items()}
        order = fixed_order(data.clients, context.seed) if plan.fixed_experts else None
        self.server = Server(shared, Pool(), data.clients, context.seed, order)
        self.personal: dict[int, Tensors] = {client: {} for client in range(data.clients)}
        self.momentum: dict[int, Tensors] = {}
        self.turns = Turns()
        self.epochs = [0] * data.clients
        self.history: list[Round] = []

    def rounds(self) -> Iterator[Round]:
        """Runs the remaining rounds, yielding each when it is complete."""
        for _, result in rounds_of([self]):
            yield result

    def run_round(self) -> Round:
        """One round: training of the selected clients, synchronously from the last round's state, and all tests."""
        return run_round_of([self])[0]

    def downloads(self, clients: Iterable[int]) -> dict[int, Tensors]:
        """What the server sends to each of the clients, as it is now."""
        return {client: self.method.download(self.server, client) for client in clients}

    def train(self, downloads: Mapping[int, Tensors], number: int) -> list[Update]:
        """Round `number` on the clients: each trains from what it has downloaded and keeps what stays with it."""
        return alone(self._updates(downloads, number))

    def fine_tune(self, downloads: Mapping[int, Tensors], number: int) -> None:
        """After the last round, `number`, the clients train what they would download now, each for itself."""
        alone(self._fine_tuning(downloads, number))

    def _updates(self, downloads: Mapping[int, Tensors], number: int) -> Training[list[Update]]:
        updates = []
        for client, own, loss in (yield from self._train(downloads, number, self.plan.recipe)):
            upload, sigma = self.method.upload(own), None
            if self.plan.privacy:
                sigma = self.sigma(len(self.data.train_rows[client]))
                upload = add_noise(upload, sigma, self.context.seed, number, client)
                own |= upload if self.plan.privacy.tested == "uploaded" else {}
            self.personal[client] = self.method.keep(own)
            self.epochs[client] += self.plan.recipe.epochs
            updates.append(Update(client, upload, loss, sigma))
        return updates

    def sigma(self, images: int) -> float:
        """Standard deviation of the noise that privacy needs on the upload of a client with so many training images."""
        recipe, privacy = self.plan.recipe, self.plan.privacy
        reach = sensitivity(count_steps(images, recipe), recipe.lr, privacy.clip, recipe.momentum)
        return privacy.sigma(reach, uploads=self.plan.rounds)

    def take_in(self, number: int, uploads: Mapping[int, Tensors]) -> None:
        """Round `number` on the server: what is downloaded from now on is for the next one."""
        sizes = {client: len(self.data.train_rows[client]) for client in uploads}
        self.method.aggregate(self.server, uploads, sizes)
        self.server.round = number + 1

    def fine_tunes(self, number: int) -> bool:
        """Whether every client trains once more, for itself, after round `number`: after the last, by some methods."""
        return self.method.final_epochs > 0 and number == self.plan.rounds

    def _fine_tuning(self, downloads: Mapping[int, Tensors], number: int) -> Training[None]:
        recipe = replace(self.plan.recipe, epochs=self.method.final_epochs)
        for client, own, _ in (yield from self._train(downloads, number + 1, recipe)):
            self.personal[client] = self.method.keep_final(own)

    def snapshot(self) -> tuple[Tensors, dict[str, Any]]:
        """Everything that the next round depends on: tensors by path, and plain data."""
        tensors = {f"shared/{name}": tensor for name, tensor in self.server.shared.items()}
        tensors |= {f"pool/{client}": prompt for client, prompt in self.server.pool.entries.items()}
        for kind, owners in (("personal", self.personal), ("momentum", self.momentum)):
            tensors |= {f"{kind}/{client}/{name}": tensor
                        for client, own in owners.items() for name, tensor in own.items()}
        for kind, carried in (("model", self.turns.model), ("momentum", self.turns.momentum)):
            tensors |= {f"turns/{kind}/{name}": tensor for name, tensor in carried.items()}
        history = [asdict(entry) for entry in self.history]
        return tensors, {"epochs": self.epochs, "shared_epochs": self.turns.epochs, "history": history}

    def restore(self, tensors: Tensors, state: dict[str, Any]) -> None:
        """Goes on from a `snapshot`."""
        pool = {}
        for path, tensor in tensors.items():
            match path.split("/"):
                case ["shared", name]:
                    self.server.shared[name] = tensor
                case ["pool", client]:
                    pool[int(client)] = tensor
                case ["turns", kind, name]:
                    getattr(self.turns, kind)[name] = tensor
                case [kind, client, name]:
                    owners = self.personal if kind == "personal" else self.momentum
                    owners.setdefault(int(client), {})[name] = tensor
        self.server.pool = Pool(pool)
        self.server.round = len(state["history"]) + 1
        self.epochs, self.turns.epochs = list(state["epochs"]), state["shared_epochs"]
        self.history = [Round.from_json(entry) for entry in state["history"]]

    def sample(self, number: int) -> list[int]:
        """S_t: max(1, floor(r N)) clients without replacement, ascending."""
        everyone = self.data.clients
        if self.method.everyone:
            return list(range(everyone))
        count = max(1, int(self.plan.participation * everyone + 1e-9))  # 0.29 * 100 is 28.999...
        chosen = generator(self.context.seed, "sample", number).choice(everyone, count, replace=False)
        return sorted(chosen.tolist())

    def _training(self) -> Training[Round]:
        """The next round until everyone has trained; nobody is tested yet."""
        result = Round(number := len(self.history) + 1, self.sample(number))
        self.take_in(number, (yield from self._train_selected(result)))
        if self.fine_tunes(number):
            downloads = self.downloads(self._order(range(self.data.clients), number + 1))
            yield from self._fine_tuning(downloads, number)
            result.bytes_down |= {client: result.bytes_down.get(client, 0) + size_of(download)
                                  for client, download in downloads.items()}
        return result

    def _test(self, result: Round, seconds: float) -> None:
        """Ends a round that took so many seconds to train."""
        started = time.perf_counter()
        tests = evaluate(self.method, self.server, self.personal, self.data, self.context)
        result.accuracies, result.diagnostics = tests.accuracies, tests.diagnostics
        result.seconds = {"train": seconds, "evaluate": time.perf_counter() - started}
        self.history.append(result)

    def _train_selected(self, result: Round) -> Training[dict[int, Tensors]]:
        """Downloads and trains, all at once or client by client; returns the uploads."""
        order = self._order(result.selected, result.number)
        uploads = {}
        for group in [[client] for client in order] if self.plan.sequential else [order]:
            downloads = self.downloads(group)
            updates = yield from self._updates(downloads, result.number)
            new = {update.client: update.upload for update in updates}
            result.losses |= {update.client: update.loss for update in updates}
            result.sigmas |= {update.client: update.sigma for update in updates if update.sigma is not None}
            result.bytes_down |= {client: size_of(download) for client, download in downloads.items()}
            if self.plan.sequential:
                self.method.enter(self.server, new)
            uploads |= new
        result.bytes_up = {client: size_of(upload) for client, upload in uploads.items()}
        return uploads

    def _order(self, clients: Iterable[int], number: int) -> list[int]:
        return in_turn(list(clients), self.context.seed, number) if self.plan.one_by_one else list(clients)

    def _train(
        self, downloads: Mapping[int, Tensors], number: int, recipe: Recipe
    ) -> Training[list[tuple[int, Tensors, float]]]:
        """Has the clients trained cohort by cohort: client, trained tensors on the CPU, mean loss."""
        finished = []
        starts = {client: self._start(client, download) for client, download in downloads.items()}
        for cohort in self._cohorts(starts, recipe):
            if not starts[cohort[0]]:  # nothing to train
                continue
            ready = self._cohort(cohort, starts, downloads, number, recipe)
            if self.plan.shared_optimizer:
                trained = self.turns.train(ready, self.plan.recipe.epochs)
            else:
                trained = yield ready
            for row, (client, loss) in enumerate(zip(cohort, trained.losses.tolist(), strict=True)):
                if not math.isfinite(loss):
                    raise PfedmoapError(f"The loss of client {client} became {loss} in round {number}: lower the "
                                        f"learning rate ({recipe.lr}), or check its images and features.")
                if self.method.keeps_optimizer and not self.plan.shared_optimizer:
                    self.momentum[client] = _row(trained.momentum, row)
                own = _row(trained.tensors, row)
                if self.plan.sequential:
                    self.turns.model |= own
                finished.append((client, own, loss))
        return finished

    def _start(self, client: int, download: Tensors) -> Tensors:
        """What the client trains, before its first step."""
        personal = self.personal[client]
        if self.plan.sequential:
            personal = self.method.inherit(personal, self.turns.model)
        start = self.method.start(download, personal, client, self.context)
        # Sorted, as they are after a restart: clients train together whose tensors have the same names.
        return {name: tensor.to(self.plan.dtype) for name, tensor in sorted(start.items())}

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
        return Cohort(method, start, fixed, batches, data.train_features, data.train_labels, recipe, self.context,
                      stack(kept, device) if kept else None)

    def _cohorts(self, starts: dict[int, Tensors], recipe: Recipe) -> list[list[int]]:
        """Clients that train alike, longest first, as many at once as the memory for a cohort allows; or one by one."""
        if self.plan.one_by_one:
            return [[client] for client in starts]
        steps = {client: count_steps(len(self.data.train_rows[client]), recipe) for client in starts}
        groups = [sorted(group, key=lambda client: -steps[client]) for group in alike(starts, starts)]
        return chunks(sorted(groups, key=lambda group: tuple(starts[group[0]])), self.cohort_size)

    @property
    def cohort_size(self) -> int:
        """Clients that the memory for a cohort allows, at least one."""
        return max(1, self.plan.cohort_bytes // self.context.text.encoder.bytes_per_prompt())


def run_round_of(federations: Sequence[Federation]) -> list[Round]:
    """The next round of one federation, or of several as one batch (`cohorts.together`), which share its seconds."""
    started = time.perf_counter()
    results = together([federation._training() for federation in federations], federations[0].cohort_size)
    seconds = (time.perf_counter() - started) / len(federations)
    for federation, result in zip(federations, results, strict=True):
        federation._test(result, seconds)
    return results


def rounds_of(federations: Sequence[Federation]) -> Iterator[tuple[int, Round]]:
    """Runs the remaining rounds of federations that differ in nothing but their seed, as one batch.

    Those that are behind, after an interruption, catch up first.

    Yields:
        A federation's place and its round, once that is complete.
    """
    if len({id(one.data.train_features) for one in federations}) > 1:
        for federation, data in zip(federations, in_one_table([own.data for own in federations]), strict=True):
            federation.data = data
    while missing := [one for one in federations if len(one.history) < one.plan.rounds]:
        done = min(len(one.history) for one in missing)
        now = [place for place, one in enumerate(federations) if len(one.history) == done]
        yield from zip(now, run_round_of([federations[place] for place in now]), strict=True)


def _row(tensors: Tensors, row: int) -> Tensors:
    """One client's tensors of a cohort's, on the CPU; copies, as views would hold the whole cohort's memory."""
    return {name: tensor[row].cpu().clone() for name, tensor in tensors.items()}


def size_of(tensors: Tensors) -> int:
    """Bytes that the tensors take on the wire."""
    return sum(tensor.nbytes for tensor in tensors.values())
