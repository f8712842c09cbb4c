"""The server as a Flower app: a strategy that sends each client its own experts."""

import json
import logging
import time
from collections.abc import Iterable, Iterator

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Strategy

from pfedmoap.errors import PfedmoapError
from pfedmoap.experiments import Experiment, Store, prepare
from pfedmoap.flower.coordinator import Coordinator
from pfedmoap.flower.ingest import Incoming
from pfedmoap.flower.messages import FAILED, about, content, incoming
from pfedmoap.flower.settings import ServerSettings
from pfedmoap.protection import build_filter
from pfedmoap.server import Tensors

POLL = 1.0  # seconds
LONGEST_COMPLAINT = 300

log = logging.getLogger(__name__)
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Runs the experiment of the run's configuration, from its checkpoint if there is one."""
    settings = ServerSettings.read()
    try:
        experiment = Experiment.from_dict(json.loads(context.run_config["experiment"]))
        coordinator = Coordinator(prepare(experiment, settings.place, clients=[]), Store(settings.store),
                                  settings.norm_limit, build_filter(settings.filter, settings.filter_limit))
        wait_for_nodes(grid, settings)
        left = experiment.rounds - len(coordinator.federation.history)
        LendingStrategy(coordinator, settings).start(grid, ArrayRecord(), left, settings.round_timeout)
    except PfedmoapError as error:
        settings.tell(failed=str(error))
        raise
    settings.tell(finished=True)


def wait_for_nodes(grid: Grid, settings: ServerSettings) -> None:
    """Until all registered nodes are connected, or patience is at an end."""
    until = time.monotonic() + settings.patience
    while (missing := set(settings.roster) - set(grid.get_node_ids())) and time.monotonic() < until:
        time.sleep(POLL)
    if missing:
        log.warning("beginning without %d of %d nodes", len(missing), len(settings.roster))


class LendingStrategy(Strategy):
    """Algorithm 1 on Flower's messages: everything is decided by the coordinator.

    Whoever is not connected, fails or does not answer in time is left out of the round.
    """

    def __init__(self, coordinator: Coordinator, settings: ServerSettings):
        self.coordinator, self.settings = coordinator, settings

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        return list(self._messages(self.coordinator.open_round(), MessageType.TRAIN, grid))

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[None, None]:
        for reply in self._answers(replies):
            self.coordinator.take_upload(reply)
        self._tests = self.coordinator.close_training()
        return None, None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        return list(self._messages(self._tests, MessageType.EVALUATE, grid))

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord:
        for reply in self._answers(replies):
            self.coordinator.take_test(reply)
        result = self.coordinator.close_round()
        reached = sum(accuracy is not None for accuracy in result.accuracies)
        self.settings.tell(round=result.number, accuracy=result.accuracy, trained=len(result.losses),
                           asked=len(result.selected), tested=reached, seconds=sum(result.seconds.values()),
                           events=[event for event in self.coordinator.events if event["round"] == result.number])
        return MetricRecord({"accuracy": result.accuracy})

    def summary(self) -> None:
        log.info("%s, round %d of %d comes next", self.coordinator.experiment.label, self.coordinator.number,
                 self.coordinator.experiment.rounds)

    def _messages(self, downloads: dict[int, Tensors], kind: str, grid: Grid) -> Iterator[Message]:
        connected = set(grid.get_node_ids())
        nodes = {client: node for node, client in self.settings.roster.items() if node in connected}
        for client, download in downloads.items():
            if client not in nodes:
                self.coordinator.report(client, "not connected")
                continue
            told = {"experiment": self.coordinator.experiment.key, "round": self.coordinator.number, "client": client}
            yield Message(content(told, download), nodes[client], kind, ttl=self.settings.round_timeout)

    def _answers(self, replies: Iterable[Message]) -> Iterator[Incoming]:
        """The replies that are any, each with the client whose key the sender has."""
        for reply in replies:
            client = self.settings.roster.get(reply.metadata.src_node_id)
            if client is None:  # the SuperLink answers for a node that is gone; the coordinator sees who is missing
                log.warning("a reply that is not a registered node's was left out")
            elif reply.has_error():
                self.coordinator.report(client, f"no answer (Flower's error {reply.error.code})")
            elif FAILED in (told := about(reply)):
                self.coordinator.report(client, f"failed: {str(told[FAILED])[:LONGEST_COMPLAINT]}")
            else:
                yield incoming(reply, client)
