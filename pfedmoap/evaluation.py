"""Every client tested with its personal model on its private test set (section 4.2)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pfedmoap.client import FederatedData
from pfedmoap.method import Context, Method, OwnImages
from pfedmoap.server import Server, Tensors

NO_ANSWER = -1  # is wrong, whatever the image shows
TEST_BATCH = 128
TEST_COHORT, GPU_TEST_COHORT = 2, 16  # on a CPU the attention of more clients would not fit in a core's cache


@dataclass(frozen=True)
class Evaluation:
    """The clients' tests after a round.

    Attributes:
        accuracies: of every client that was tested, 0 to 1, in client order.
        diagnostics: the method's own numbers (`Method.examine`). Each is the mean over a client's first test batch,
            then over the clients that have it.
    """

    accuracies: list[float]
    diagnostics: dict[str, float]


def evaluate(
    method: Method, server: Server, personal: Mapping[int, Tensors], data: FederatedData, context: Context
) -> Evaluation:
    """Tests every client with the model that it has now.

    Args:
        server: as it is at the end of the round; what a client would download from it now is what it is tested with.
        personal: client -> what it keeps.
    """
    server.pool.expect(range(data.clients))
    return evaluate_clients(method, Downloads(method, server, data.clients), personal, data, context)


@dataclass(frozen=True)
class Downloads(Mapping[int, Tensors]):
    """What every client would download now. Each is made when it is asked for, as all would not fit in memory."""

    method: Method
    server: Server
    clients: int

    def __getitem__(self, client: int) -> Tensors:
        return self.method.download(self.server, client)

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.clients))

    def __len__(self) -> int:
        return self.clients


def evaluate_clients(
    method: Method, downloads: Mapping[int, Tensors], personal: Mapping[int, Tensors], data: FederatedData,
    context: Context,
) -> Evaluation:  # fmt: skip
    """Tests the clients that have downloaded something, in ascending order: `evaluate`'s side of the clients."""
    models = {client: method.tested(downloads[client], personal[client], client, context)
              for client in sorted(downloads)}
    return evaluate_models(method, models, downloads, data, context)


def evaluate_models(
    method: Method, models: Mapping[int, Tensors], downloads: Mapping[int, Tensors], data: FederatedData,
    context: Context,
) -> Evaluation:  # fmt: skip
    """Tests each client's model on its own test images, in the models' order."""
    clients = list(models)
    correct, diagnostics = torch.zeros(data.clients), dict[str, list[float]]()
    size = TEST_COHORT if data.test_labels.device.type == "cpu" else GPU_TEST_COHORT
    for cohort in chunks(alike(clients, models), size):
        model = stack([models[client] for client in cohort], data.test_labels.device)
        model = {name: tensor.float() for name, tensor in model.items()}  # where it is stored in fp16
        cached = [own_images(data, client) for client in cohort] if method.remembers_images else None
        fixed = method.fixed(model, [downloads[client] for client in cohort], context, cached)
        correct[cohort], own_diagnostics = _test(method, cohort, model, fixed, data, context)
        for name, values in own_diagnostics.items():
            diagnostics.setdefault(name, []).extend(values.tolist())
    accuracies = correct[clients] / torch.tensor([len(data.test_rows[client]) for client in clients])
    means = {name: sum(values) / len(values) for name, values in diagnostics.items()}
    return Evaluation(accuracies.tolist(), means)


@torch.no_grad()
def _test(
    method: Method, cohort: list[int], model: Tensors, fixed: Tensors, data: FederatedData, context: Context
) -> tuple[Tensor, dict[str, Tensor]]:
    """A cohort's correct predictions (clients,), and its diagnostics, each (clients,)."""
    device = data.test_labels.device
    rows = [torch.from_numpy(data.test_rows[client]) for client in cohort]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)  # (clients, longest)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    correct, diagnostics = torch.zeros(len(cohort), device=device), {}
    for start in range(0, padded.shape[1], TEST_BATCH):
        at = padded[:, start : start + TEST_BATCH]  # (clients, B)
        present = torch.arange(start, start + at.shape[1], device=device) < lengths[:, None]
        if start == 0:
            logits, numbers = method.examine(model, fixed, data.test_features[at], context)
            diagnostics = {name: (value * present).sum(1) / present.sum(1) for name, value in numbers.items()}
        else:
            logits = method.logits(model, fixed, data.test_features[at], context)  # (clients, B, C)
        correct += ((answer(logits) == data.test_labels[at]) & present).sum(1)
    return correct.cpu(), diagnostics


def answer(logits: Tensor) -> Tensor:
    """The class with the highest score: (..., C) -> (...); `NO_ANSWER` where none has one (all are -inf)."""
    return torch.where(logits.amax(-1).isneginf(), NO_ANSWER, logits.argmax(-1))


def own_images(data: FederatedData, client: int) -> OwnImages:
    """A client's training images as they would be tested."""
    rows = torch.from_numpy(data.train_rows[client]).to(data.train_labels.device)
    features = data.train_features[0] if data.plain_features is None else data.plain_features
    return OwnImages(features[rows], data.train_labels[rows])


def alike(clients: Iterable[int], tensors: Mapping[int, Tensors]) -> list[list[int]]:
    """Groups clients whose tensors have the same names: with a gate, without one, ..."""
    groups: dict[tuple, list[int]] = {}
    for client in clients:
        groups.setdefault(tuple(tensors[client]), []).append(client)
    return list(groups.values())


def chunks(groups: Iterable[list[int]], size: int) -> list[list[int]]:
    """Cuts every group into pieces of at most `size` clients."""
    return [group[at : at + size] for group in groups for at in range(0, len(group), size)]


def stack(clients: Sequence[Tensors], device: torch.device) -> Tensors:
    """Single clients' tensors -> a cohort's, with a leading clients axis."""
    return {name: torch.stack([tensors[name] for tensors in clients]).to(device) for name in clients[0]}
