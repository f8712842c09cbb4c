"""The server of a real federation, without a transport: sampling, downloads, ingest, aggregation, checkpoints."""

import json
import logging
import time
from typing import Any

from pfedmoap.errors import PfedmoapError, UserError
from pfedmoap.experiments import Experiment, Prepared, Record, Store, record_of, resume
from pfedmoap.federation import Round, Update
from pfedmoap.flower.ingest import NORM_LIMIT, Incoming, Ingest
from pfedmoap.flower.wire import Refused
from pfedmoap.protection import Filter, everything, spent, take_in
from pfedmoap.server import Tensors, size_of

log = logging.getLogger(__name__)


class Coordinator:
    """One experiment's server: the server's side of a `Federation`, ingest before it and a checkpoint behind it.

    A round is `open_round`, any number of `take_upload`, `close_training`, any number of `take_test`, `close_round`.

    Args:
        prepared: the experiment; no images need to be read.
        store: where checkpoints and the record go; one that is there is gone on from.
        norm_limit: see `Ingest`.
        chosen: the filter on what passed ingest.

    Attributes:
        events: what went wrong so far, each {"round", "client", "what"}.
    """

    def __init__(
        self, prepared: Prepared, store: Store, norm_limit: float = NORM_LIMIT, chosen: Filter = everything
    ):
        check_federable(prepared.experiment)
        self.prepared, self.store, self.federation = prepared, store, prepared.federation
        self.experiment, self.filter = prepared.experiment, chosen
        self.ingest = Ingest(self.experiment.key, norm_limit)
        self.events: list[dict[str, Any]] = []
        if checkpoint := store.load_checkpoint(self.experiment):
            tensors, state = checkpoint
            resume(prepared, tensors, state)
            self.ingest.norms = {int(client): norms for client, norms in state["norms"].items()}
            self.events = state["events"]
            log.info("going on after round %d of %d", len(self.federation.history), self.experiment.rounds)
        self._templates = self._expected_upload()

    @property
    def number(self) -> int:
        """The round that is open or comes next, from 1."""
        return len(self.federation.history) + 1

    @property
    def finished(self) -> bool:
        return self.number > self.experiment.rounds

    def open_round(self) -> dict[int, Tensors]:
        """Samples the round's clients; returns what each downloads."""
        self._round = Round(self.number, self.federation.sample(self.number))
        self._updates: dict[int, Update] = {}
        self._round_started = time.perf_counter()
        self.ingest.open(self.number, "upload", self._round.selected)
        downloads = self.federation.downloads(self._round.selected)
        self._round.bytes_down = {client: size_of(download) for client, download in downloads.items()}
        return downloads

    def take_upload(self, incoming: Incoming) -> bool:
        """Judges an upload; whether it was let in. One that was not is logged, and the round goes on."""
        try:
            update = self.ingest.upload(incoming, self._templates, self.federation.sigma(incoming.sender))
        except Refused as error:
            self.report(incoming.sender, f"upload refused: {error}")
            return False
        self._updates[incoming.sender] = update
        return True

    def close_training(self) -> dict[int, Tensors]:
        """Takes in what was let in, whoever is missing; returns what every client downloads to be tested."""
        updates = [self._updates[client] for client in sorted(self._updates)]  # the order of arrival must not matter
        self._report_missing(set(self._round.selected) - set(self._updates))
        self._round.bytes_up = {update.client: size_of(update.upload) for update in updates}
        self._round.sigmas = {update.client: update.sigma for update in updates if update.sigma is not None}
        refused = take_in(self.federation, {update.client: update.upload for update in updates}, self.filter)
        for client, reason in sorted(refused.items()):
            self.report(client, f"upload refused: {reason}")
        self._round.losses = {update.client: update.loss for update in updates if update.client not in refused}
        self.federation.server.round = self.number + 1
        everyone = range(self.experiment.clients)
        if self.federation.fine_tunes(self.number):
            downloads = self.federation.final_downloads(self._round)
        else:
            downloads = self.federation.downloads(everyone)
        self._round.seconds["train"] = time.perf_counter() - self._round_started
        self._tests: dict[int, tuple[float, dict[str, float]]] = {}
        self.ingest.open(self.number, "test", everyone)
        return downloads

    def take_test(self, incoming: Incoming) -> bool:
        """Judges a client's test; whether it was let in."""
        try:
            self._tests[incoming.sender] = self.ingest.test(incoming)
        except Refused as error:
            self.report(incoming.sender, f"test refused: {error}")
            return False
        return True

    def close_round(self) -> Round:
        """Ends the round, with a checkpoint, or after the last one with the record.

        Raises:
            PfedmoapError: no client was reached; the last checkpoint stays.
        """
        if not self._tests:
            raise PfedmoapError(f"No client answered in round {self.number}: start the nodes (pfedmoap federate "
                                f"client), then the server again; it goes on with this round.")
        self._report_missing(set(range(self.experiment.clients)) - set(self._tests))
        result = self._round
        result.accuracies = [self._tests[client][0] if client in self._tests else None
                             for client in range(self.experiment.clients)]
        numbers: dict[str, list[float]] = {}
        for client in sorted(self._tests):
            for name, value in self._tests[client][1].items():
                numbers.setdefault(name, []).append(value)
        result.diagnostics = {name: sum(values) / len(values) for name, values in numbers.items()}
        result.seconds["evaluate"] = time.perf_counter() - self._round_started - result.seconds["train"]
        self.federation.history.append(result)
        if self.finished:
            self.store.put(self.experiment, self.record())
        else:
            tensors, state = self.federation.snapshot()
            state |= {"norms": self.ingest.norms, "events": self.events}
            self.store.save_checkpoint(self.experiment, tensors, state | self.prepared.identity)
        return result

    def report(self, client: int, what: str) -> None:
        """Logs and records something that went wrong with a client."""
        log.warning("round %d: client %d: %s", self.number, client, what)
        self.events.append({"round": self.number, "client": client, "what": what})

    def record(self) -> Record:
        """The record, as `experiments.run` makes it, what went wrong, and with privacy what clients spent of it."""
        total = sum(sum(entry.seconds.values()) for entry in self.federation.history)
        record = record_of(self.prepared, {"prepare": 0.0, "total": total})
        record |= {"transport": "flower", "events": self.events}
        if self.federation.plan.privacy:
            sizes = self.federation.sizes(range(self.experiment.clients))
            record["ledger"] = spent(self.federation.history, self.federation.plan, list(sizes.values()))
        return json.loads(json.dumps(record))

    def _report_missing(self, clients: set[int]) -> None:
        """Those of which nothing is known in this round, not even what went wrong."""
        heard_of = {event["client"] for event in self.events if event["round"] == self.number}
        for client in sorted(clients - heard_of):
            self.report(client, "no answer")

    def _expected_upload(self) -> Tensors:
        """What uploads look like: what a client would send that has not trained."""
        federation = self.federation
        start = federation.start(0, federation.downloads([0])[0])
        if not start:
            raise UserError(f"{self.experiment.method.title} trains nothing: there is nothing to federate.")
        return federation.method.upload(start)


def check_federable(experiment: Experiment) -> None:
    """Refuses what cannot be run on several machines.

    Raises:
        UserError: a protocol switch makes clients take turns at one model or optimiser, or more is asked than the
            paper's test.
    """
    if experiment.beyond:
        raise UserError(f"evaluate {experiment.evaluate} needs all clients at one place: leave it out, or use "
                        f"`pfedmoap run`.")
    for switch, value in (("optimizer", "shared"), ("round_order", "sequential")):
        if getattr(experiment.protocol, switch) == value:
            raise UserError(f"The protocol switch {switch} {value!r} hands what one client trained to the next, which "
                            f"cannot be done on several machines: leave it out, or use `pfedmoap run`.")
