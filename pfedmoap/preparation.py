"""From an experiment to a federation that is ready for its first round: data, CLIP, image features."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pfedmoap import clip as clips
from pfedmoap.data import catalog
from pfedmoap.data.features import image_features
from pfedmoap.data.federated import FederatedData
from pfedmoap.data.imageset import ImageSet
from pfedmoap.data.partition import Partition, partition
from pfedmoap.experiment import Experiment
from pfedmoap.federation import Federation, Plan
from pfedmoap.methods import Context
from pfedmoap.paths import cache_dir
from pfedmoap.prompts import PromptEncoder, TextFeatures, initial_prompt


@dataclass(frozen=True)
class Place:
    """Where experiments run; nothing in here changes a result.

    Attributes:
        data_root: folder of the data sets that are read from disk.
        cache: folder of cached image features; None: `paths.cache_dir()`.
        device: "cpu", "cuda", ...
    """

    data_root: str | None = None
    cache: str | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Prepared:
    """An experiment with everything it needs, ready for its first round."""

    experiment: Experiment
    imageset: ImageSet
    partition: Partition
    clip: clips.Clip
    federation: Federation


def prepare(experiment: Experiment, place: Place = Place(), progress: bool = False) -> Prepared:
    """Loads data, CLIP and image features, and sets up the federation.

    Raises:
        UserError: data or weights are missing or do not fit; nothing has been trained.
    """
    imageset = catalog.load(experiment.dataset, place.data_root)
    shares = partition(
        imageset, experiment.partition, clients=experiment.clients, seed=experiment.seed, shots=experiment.shots,
        alpha=experiment.alpha)
    clip = clips.load(experiment.model, experiment.weights, device=place.device, precision=experiment.precision)
    encoder = PromptEncoder(clip, imageset.class_names)
    encoder.check_length(experiment.context_tokens)
    experiment.method.check(clip.embed_dim, experiment.context_tokens)
    data = _federated_data(experiment, imageset, shares, clip, place, progress)  # last: it can take minutes
    context = Context(
        text=TextFeatures(encoder),
        handwritten=encoder.handwritten(),
        logit_scale=clip.logit_scale,
        initial_prompt=initial_prompt(experiment.context_tokens, clip.token_width, experiment.seed),
        seed=experiment.seed)
    plan = Plan(experiment.rounds, experiment.participation, experiment.recipe, experiment.privacy,
                _cohort_bytes(place.device))
    return Prepared(experiment, imageset, shares, clip, Federation(experiment.method, plan, data, context))


def _federated_data(
    experiment: Experiment, imageset: ImageSet, shares: Partition, clip: clips.Clip, place: Place, progress: bool
) -> FederatedData:
    """Features of the images that are used, renumbered so that no others are held in memory."""
    folder, method = Path(place.cache or cache_dir()), experiment.method

    def features(split: str, views: int, used: np.ndarray) -> torch.Tensor:
        table = image_features(clip, imageset, split, views, cache_dir=folder, seed=experiment.seed, indices=used,
                               progress=progress, spatial=method.spatial)
        table = table if imageset.augment else table[:1]  # without augmentation all views are the same
        return torch.from_numpy(table[:, used]).to(place.device)  # (V, n, d) or (V, n, M, d)

    train, test = (np.unique(np.concatenate(owned)) for owned in (shares.train, shares.test))
    plain = features("train", 0, train)[0] if method.remembers_images else None
    labels = [torch.from_numpy(getattr(imageset, split).labels[used]).to(place.device)
              for split, used in (("train", train), ("test", test))]
    return FederatedData(
        features("train", experiment.views, train), labels[0], features("test", 0, test)[0], labels[1],
        [np.searchsorted(train, own) for own in shares.train], [np.searchsorted(test, own) for own in shares.test],
        plain)


def _cohort_bytes(device: str) -> int:
    """Memory for a cohort's training step: 2 GiB in main memory, half of what is free on a GPU."""
    return torch.cuda.mem_get_info(device)[0] // 2 if device.startswith("cuda") else 2 * 2**30
