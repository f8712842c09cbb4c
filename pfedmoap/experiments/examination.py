"""What an experiment asks beyond the paper's test, answered after its last round (`Experiment.evaluate`)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pfedmoap.beyond import BaseNew, NewClients, UnseenDomain, base_new, new_clients, unseen_domain
from pfedmoap.data import ImageSet, image_features
from pfedmoap.experiments.datasets import load_dataset
from pfedmoap.experiments.preparation import Place, Prepared, dealt_to_all, federated_data, shares_of
from pfedmoap.prompts import PromptEncoder, TextFeatures
from pfedmoap.released import federation_for
from pfedmoap.system import cache_dir


def examine(prepared: Prepared, place: Place, progress: bool = False) -> dict[str, Any]:
    """The answers of a run that has ended, as they are stored in its record; empty if nothing was asked.

    Returns:
        "accuracies": measure -> every client's accuracy, 0 to 1, in client order; and what else the question's module
        in `pfedmoap.beyond` gives.
    """
    experiment, federation = prepared.experiment, prepared.federation
    match experiment.question:
        case BaseNew():
            whole = load_dataset(experiment.dataset, place.data_root)
            base, labels = len(prepared.imageset.class_names), whole.test.labels
            images = _test_features(prepared, whole, np.arange(len(labels)), place, progress)
            encoder = PromptEncoder(prepared.clip, whole.class_names)
            context = replace(federation.context, text=TextFeatures(encoder), handwritten=encoder.handwritten())
            found = base_new.examine(federation, images, labels, list(prepared.partition.test), base, context)
            return found | {"classes": {"base": base, "new": len(whole.class_names) - base}}
        case UnseenDomain() as asked:
            whole = load_dataset(experiment.dataset, place.data_root)
            rows = np.flatnonzero(whole.test.domains == asked.number(whole))
            images = _test_features(prepared, whole, rows, place, progress)
            return unseen_domain.examine(federation, images, whole.test.labels[rows]) | {"images": len(rows)}
        case NewClients() as asked:
            return _join(prepared, asked, place, progress)
    return {}


def _join(prepared: Prepared, asked: NewClients, place: Place, progress: bool) -> dict[str, Any]:
    """Lets those who were held out join, with the highest ids."""
    experiment, federation = prepared.experiment, prepared.federation
    everyone = dealt_to_all(experiment, prepared.imageset)
    joining = asked.newcomers(len(everyone.train), experiment.seed)
    trained = asked.participants(len(everyone.train), experiment.seed)
    ids = list(range(len(trained), len(trained) + len(joining)))
    shares = shares_of(everyone, [*trained, *joining])
    data = federated_data(experiment, prepared.imageset, shares, prepared.clip, place, progress, ids)
    late = federation_for(federation.method, federation.plan, data, federation.context, experiment.protocol)
    found = new_clients.examine(federation, late, ids)
    return found | {"train_images": [len(shares.train[client]) for client in ids]}


def _test_features(
    prepared: Prepared, whole: ImageSet, rows: np.ndarray, place: Place, progress: bool
) -> torch.Tensor:
    """(n, d), or (n, M, d) for methods that see every position."""
    table = image_features(prepared.clip, whole, "test", cache_dir=Path(place.cache or cache_dir()), indices=rows,
                           progress=progress, spatial=prepared.experiment.method.spatial)
    return torch.from_numpy(table[0, rows]).to(place.device)
