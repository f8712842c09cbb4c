"""A federation in memory: a coordinator and nodes that pass bytes, as Flower would carry them."""

from pfedmoap.evaluation import Evaluation
from pfedmoap.experiments import Place, Store, from_profile, prepare
from pfedmoap.federation import Update
from pfedmoap.flower.coordinator import Coordinator
from pfedmoap.flower.ingest import Incoming
from pfedmoap.flower.node import Node, open_node
from pfedmoap.flower.wire import pack, unpack
from pfedmoap.methods import FedPer, PFedMoAP, PromptFL

METHODS = [PFedMoAP(experts=2), PromptFL(), FedPer()]


def small(method=METHODS[0], **settings):
    return from_profile("nature", method, "smoke", **{"rounds": 3, "clients": 4, "shots": 8} | settings)


class Loop:
    """Nodes and a coordinator; `drop` and `spoil` say which uploads are lost or changed on the way."""

    def __init__(self, tmp_path, run, **options):
        self.experiment, self.tmp_path, self.place = run, tmp_path, Place()
        self.options = options
        self.restart_server()
        self.nodes: dict[int, Node] = {client: self.new_node(client) for client in range(run.clients)}

    def restart_server(self):
        prepared = prepare(self.experiment, self.place, clients=[])
        self.coordinator = Coordinator(prepared, Store(self.tmp_path / "server"), **self.options)

    def new_node(self, client: int) -> Node:
        return open_node(self.experiment, client, self.tmp_path / "nodes", self.place)

    def over_the_wire(self, tensors):
        return unpack(pack(tensors), tensors)

    def train(self, downloads, only=None) -> dict[int, Incoming]:
        run, number = self.experiment, self.coordinator.number
        return {client: uploaded(run, number, self.nodes[client].train(self.over_the_wire(download), number))
                for client, download in downloads.items() if only is None or client in only}

    def test(self, downloads, only=None):
        number = self.coordinator.number
        for client, download in reversed(downloads.items()):  # the order of arrival must not matter
            if only is None or client in only:
                result = self.nodes[client].evaluate(self.over_the_wire(download), number)
                assert self.coordinator.take_test(evaluated(self.experiment, number, client, result))

    def run_round(self, spoil=lambda uploads: uploads, only=None):
        uploads = self.train(self.coordinator.open_round(), only)
        for incoming in reversed(list(spoil(uploads).values())):
            self.coordinator.take_upload(incoming)
        self.test(self.coordinator.close_training(), only)
        return self.coordinator.close_round()

    def run(self):
        while not self.coordinator.finished:
            self.run_round()
        return self.coordinator.federation


def uploaded(run, number: int, update: Update) -> Incoming:
    about = {"experiment": run.key, "round": number, "client": update.client, "loss": update.loss}
    return Incoming(update.client, about, pack(update.upload))


def evaluated(run, number: int, client: int, result: Evaluation) -> Incoming:
    about = {"experiment": run.key, "round": number, "client": client, "accuracy": result.accuracies[0]}
    return Incoming(client, about | result.diagnostics, {})
