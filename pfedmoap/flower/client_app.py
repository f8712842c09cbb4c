"""A client as a Flower app. Its gate is on its own disk: Flower's context would forget it when the node restarts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from pfedmoap.errors import PfedmoapError
from pfedmoap.experiments import Experiment, Place
from pfedmoap.flower.messages import FAILED, TENSORS, about, content
from pfedmoap.flower.node import Node, open_node
from pfedmoap.server import Tensors

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """The local update; the reply is the upload and the loss."""
    def update(node: Node, download: Tensors, number: int) -> tuple[dict[str, Any], Tensors]:
        update = node.train(download, number)
        return {"loss": update.loss}, update.upload

    return _answer(message, context, update)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """The test with the personal model; the reply is the accuracy and the method's diagnostics."""
    def test(node: Node, download: Tensors, number: int) -> tuple[dict[str, Any], Tensors]:
        result = node.evaluate(download, number)
        return {"accuracy": result.accuracies[0]} | result.diagnostics, {}

    return _answer(message, context, test)


def _answer(message: Message, context: Context, work: Callable) -> Message:
    """The reply of this node's client, or why there is none."""
    asked, client = about(message), int(context.node_config["client"])
    try:
        experiment = Experiment.from_dict(json.loads(context.run_config["experiment"]))
        _compare(experiment, asked, client)
        place = Place(context.node_config.get("data-root") or None, context.node_config.get("cache") or None)
        node = open_node(experiment, client, Path(str(context.node_config["state"])), place)
        download = {name: torch.from_numpy(array.numpy()) for name, array in message.content[TENSORS].items()}
        told, tensors = work(node, download, asked["round"])
    except PfedmoapError as error:
        return Message(content({FAILED: str(error)}), reply_to=message)
    same = {name: asked[name] for name in ("experiment", "round", "client")}
    return Message(content(same | told, tensors), reply_to=message)


def _compare(experiment: Experiment, asked: dict[str, Any], client: int) -> None:
    """Whether server and node mean the same, down to the content of the weights file."""
    if experiment.key != asked.get("experiment"):
        raise PfedmoapError(f"this node makes experiment {experiment.key} of the settings, the server "
                            f"{asked.get('experiment')}: use the same version of pfedmoap and the same weights file")
    if client != asked.get("client"):
        raise PfedmoapError(f"this node is client {client}, not {asked.get('client')}: give it its own folder")
