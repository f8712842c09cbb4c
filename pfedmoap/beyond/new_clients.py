"""New clients: those that took no part in training, when they join, after local training, and by their images.

Each newcomer is tested on its own test images, as everyone is:

- `cold`: with what it downloads, before it has looked at an image of its own.
- `epochs`: with what it has after so many local epochs from there, its first participation. It is the trained model
  itself that is tested, also for methods whose clients keep nothing.
- `experts`: after so many epochs of a second participation, for methods with a pool: its prompt of the first has
  entered the pool, and it has downloaded again, now with its nearest neighbours. pFedMoAP starts from the global prompt
  with K experts and a fresh gate.
- `images`: as `epochs`, after the usual number of epochs, on at most so many training images of each of its classes.

Nothing that a newcomer does changes the global tensors, and no newcomer sees another's prompt before all have entered.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np

from pfedmoap.client import FederatedData
from pfedmoap.evaluation import evaluate_models
from pfedmoap.federation import Federation
from pfedmoap.server import Tensors

IMAGES = 1, 2, 4, 8, 16  # of a class, at most: the same points in every run


def examine(federation: Federation, late: Federation, newcomers: Sequence[int]) -> dict[str, Any]:
    """Lets newcomers join.

    Args:
        federation: trained, without them.
        late: the same with all clients: first those of `federation`, in their order, then the newcomers.
        newcomers: their ids in `late`.

    Returns:
        "accuracies": {"cold": every newcomer's, 0 to 1}; "curves": what -> number -> every newcomer's.
    """
    late.server.shared = dict(federation.server.shared)
    late.server.pool.restore(federation.server.pool.entries)
    late.server.round, number = federation.server.round, federation.server.round
    epochs, data, method = late.plan.recipe.epochs, late.data, late.method
    downloads = {client: late.downloads([client])[client] for client in newcomers}

    def learned(lent: Mapping[int, Tensors], epochs: int, data: FederatedData = data) -> list[float]:
        here = copy(late)
        here.data = data
        models = trained(here, lent, epochs, number)
        return evaluate_models(method, models, lent, data, late.context).accuracies

    nothing = _with_images(data, newcomers, 0)
    tested = {client: method.tested(lent, {}, client, late.context) for client, lent in downloads.items()}
    cold = evaluate_models(method, tested, downloads, nothing, late.context).accuracies
    times = sorted({1, 2, epochs})
    curves = {"epochs": {count: learned(downloads, count) for count in times}}
    most = max(int(np.bincount(_labels(data, client)).max()) for client in newcomers)
    curves["images"] = {count: learned(downloads, epochs, _with_images(data, newcomers, count))
                        if count < most else curves["epochs"][epochs] for count in IMAGES}
    for cohort in late.cohorts(downloads, number):
        late.cache({update.client: update.upload for update in late.upload(cohort, late.train_cohort(cohort), number)})
    if any(client in late.server.pool for client in newcomers):
        number += 1
        again = {client: late.downloads([client])[client] for client in newcomers}
        curves["experts"] = {count: learned(again, count) for count in (0, *times)}
    return {"accuracies": {"cold": cold}, "curves": curves}


def trained(late: Federation, downloads: Mapping[int, Tensors], epochs: int, number: int) -> dict[int, Tensors]:
    """Each client's model after so many local epochs; where there is nothing to train, the one it is tested with."""
    start = {client: late.start(client, lent) or late.method.tested(lent, late.kept(client), client, late.context)
             for client, lent in downloads.items()}
    if epochs == 0:
        return start
    for cohort in late.cohorts(downloads, number, replace(late.plan.recipe, epochs=epochs)):
        tensors = late.train_cohort(cohort).tensors
        start |= {client: {name: tensor[row] for name, tensor in tensors.items()}
                  for row, client in enumerate(cohort.clients)}
    return start


def _with_images(data: FederatedData, newcomers: Sequence[int], count: int) -> FederatedData:
    """The same data with only the newcomers' first `count` training images of each class."""
    rows = list(data.train_rows)
    for client in newcomers:
        labels = _labels(data, client)
        first = np.array([(labels[:place] == label).sum() < count for place, label in enumerate(labels)], dtype=bool)
        rows[client] = rows[client][first]
    return replace(data, train_rows=rows)


def _labels(data: FederatedData, client: int) -> np.ndarray:
    return data.train_labels.cpu().numpy()[data.train_rows[client]]
