"""Between Flower's records and what the coordinator and the nodes speak."""

from collections.abc import Mapping
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from pfedmoap.flower.ingest import Incoming
from pfedmoap.flower.wire import pack
from pfedmoap.server import Tensors

ABOUT, TENSORS, FAILED = "about", "tensors", "failed"


def content(about: Mapping[str, Any], tensors: Tensors | None = None) -> RecordDict:
    """A new record of plain values and tensors; each node needs its own."""
    arrays = {name: Array(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), "numpy.ndarray", packed)
              for (name, tensor), packed in zip((tensors or {}).items(), pack(tensors or {}).values(), strict=True)}
    return RecordDict({ABOUT: ConfigRecord(dict(about)), TENSORS: ArrayRecord(arrays)})


def about(message: Message) -> dict[str, Any]:
    """The plain values of a message; none if it has no such record."""
    record = message.content.get(ABOUT)
    return dict(record) if isinstance(record, ConfigRecord) else {}


def incoming(message: Message, sender: int) -> Incoming:
    """A reply, with its tensors still as bytes."""
    record = message.content.get(TENSORS)
    arrays = {name: array.data for name, array in record.items()} if isinstance(record, ArrayRecord) else {}
    return Incoming(sender, about(message), arrays)
