"""From an experiment to a federation that is ready for its first round: data, CLIP, image features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pfedmoap import clip as clips
from pfedmoap.client import FederatedData
from pfedmoap.data import ImageSet, Partition, image_features, partition
from pfedmoap.errors import UserError
from pfedmoap.experiments.datasets import load_dataset
from pfedmoap.experiments.experiment import Experiment
from pfedmoap.experiments.processor import refuse_too_slow
from pfedmoap.federation import Federation, Plan
from pfedmoap.methods import Context
from pfedmoap.prompts import PromptEncoder, TextFeatures, initial_prompt
from pfedmoap.randomness import generator
from pfedmoap.released import DATA_SEED, federation_for, mispaired, with_shuffled_names, word_prompt
from pfedmoap.system import cache_dir


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

    @property
    def identity(self) -> dict[str, str]:
        """What a checkpoint must have been made with to go on here."""
        return {"key": self.experiment.key, "data": self.imageset.fingerprint, "clip": self.clip.fingerprint}


def prepare(
    experiment: Experiment, place: Place = Place(), progress: bool = False, clients: Sequence[int] | None = None
) -> Prepared:
    """Loads data, CLIP and image features, and sets up the federation.

    Args:
        clients: whose images are read; None: everyone's. The others' rows are beyond the features: using them fails.

    Raises:
        UserError: data or weights are missing or do not fit; nothing has been trained.
    """
    whole = load_dataset(experiment.dataset, place.data_root)
    shares, imageset = dealt(experiment, whole), named(experiment, whole)
    clip = clip_of(experiment, place)
    memory_bytes = _cohort_bytes(place.device)
    encoder = PromptEncoder(clip, imageset.class_names, memory_bytes)
    prompt = _initial_prompt(experiment, clip)
    encoder.check_length(len(prompt))
    if imageset.class_names != whole.class_names:
        PromptEncoder(clip, whole.class_names).check_length(len(prompt))  # the others are tested after the last round
    experiment.method.check(clip.embed_dim, len(prompt))
    data = federated_data(experiment, imageset, shares, clip, place, progress, clients)  # last: it can take minutes
    context = Context(
        text=TextFeatures(encoder),
        handwritten=encoder.handwritten(),
        logit_scale=clip.logit_scale,
        initial_prompt=prompt,
        seed=experiment.seed)
    plan = Plan(experiment.rounds, experiment.participation, experiment.recipe, experiment.privacy,
                memory_bytes)
    run = federation_for(experiment.method, plan, data, context, experiment.protocol)
    return Prepared(experiment, imageset, shares, clip, run)


def clip_of(experiment: Experiment, place: Place) -> clips.Clip:
    """The experiment's CLIP, loaded at a place.

    Raises:
        UserError: it cannot be had, or its precision is far too slow there.
    """
    refuse_too_slow(experiment.precision, place.device)
    return clips.load_clip(experiment.model, experiment.weights, device=place.device, precision=experiment.precision)


def dealt(experiment: Experiment, imageset: ImageSet) -> Partition:
    """The experiment's partition of a set among those who train: by its protocol's data_seed, class_deal and
    label_pairing, without what it keeps from training.
    """
    everyone = dealt_to_all(experiment, imageset)
    return shares_of(everyone, experiment.question.participants(len(everyone.train), experiment.seed))


def dealt_to_all(experiment: Experiment, imageset: ImageSet) -> Partition:
    """As `dealt`, also to clients that take no part in training."""
    protocol, seen = experiment.protocol, experiment.question.seen(imageset)
    seed = experiment.seed if protocol.data_seed == "per_seed" else DATA_SEED
    shares = _dealt(
        experiment, seen.imageset, experiment.partition, clients=experiment.clients, seed=seed, shots=experiment.shots,
        alpha=experiment.alpha, class_deal=protocol.class_deal)
    if protocol.label_pairing == "mispaired" and experiment.partition == "domain_dirichlet":
        return _less_tested(mispaired(imageset, shares, seed), experiment.test_images, seed)
    return _less_tested(seen.in_whole(shares), experiment.test_images, seed)


def _less_tested(shares: Partition, most: int | None, seed: int) -> Partition:
    """Every client with at most so many of its test images."""
    if most is None:
        return shares
    kept = [np.sort(generator(seed, "test images", client).permutation(len(own))[:most])
            for client, own in enumerate(shares.test)]
    return replace(shares, **{name: tuple(own[rows] for own, rows in zip(getattr(shares, name), kept, strict=True))
                              for name in ("test", "test_labels")})


def _dealt(experiment: Experiment, imageset: ImageSet, protocol: str, **settings: Any) -> Partition:
    try:
        return partition(imageset, protocol, **settings)
    except UserError as error:
        if experiment.beyond:  # what is dealt is not all there is
            raise UserError(f"Of what evaluate {experiment.evaluate} leaves for training: {error}") from error
        raise


def shares_of(shares: Partition, clients: Sequence[int]) -> Partition:
    """Some clients' shares, in the given order."""
    return replace(shares, **{name: tuple(getattr(shares, name)[client] for client in clients)
                              for name in ("train", "test", "train_labels", "test_labels")})


def named(experiment: Experiment, imageset: ImageSet) -> ImageSet:
    """The set with the class names that prompts are trained on, by the protocol's class_names."""
    if experiment.protocol.class_names == "shuffled":
        return with_shuffled_names(imageset, experiment.seed)
    return replace(imageset, class_names=experiment.question.trained_names(imageset.class_names))


def _initial_prompt(experiment: Experiment, clip: clips.Clip) -> torch.Tensor:
    """What every client starts from, by the protocol's prompt_init: (m, e) random, or (1, e)."""
    if experiment.protocol.prompt_init == "word_false":
        return word_prompt(clip, "False")
    return initial_prompt(experiment.context_tokens, clip.token_width, experiment.seed)


def federated_data(
    experiment: Experiment, imageset: ImageSet, shares: Partition, clip: clips.Clip, place: Place, progress: bool,
    clients: Sequence[int] | None = None,
) -> FederatedData:  # fmt: skip
    """Features of the images that are used, client by client, so that no others are held in memory."""
    folder, method = Path(place.cache or cache_dir()), experiment.method
    read = list(range(len(shares.train)) if clients is None else clients)
    order = read + [client for client in range(len(shares.train)) if client not in read]

    def own(split: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([np.empty(0, dtype=np.int64), *(split[client] for client in read)])

    def features(split: str, views: int, used: np.ndarray) -> torch.Tensor:
        if not len(used):
            return torch.empty(1, 0, clip.embed_dim)
        table = image_features(clip, imageset, split, views, cache_dir=folder, seed=experiment.seed, indices=used,
                               progress=progress, spatial=method.spatial,
                               preprocess=experiment.protocol.cifar_preprocess)
        table = table if imageset.augment else table[:1]  # without augmentation all views are the same
        if method.spatial and split == "train" and torch.device(place.device).type != "cpu":
            return _in_half(table, used, place.device)
        return torch.from_numpy(table[:, used]).to(place.device)  # (V, n, d) or (V, n, M, d)

    train, test = own(shares.train), own(shares.test)
    plain = features("train", 0, train)[0] if method.remembers_images else None
    labels = [torch.from_numpy(own(split)).to(place.device) for split in (shares.train_labels, shares.test_labels)]
    return FederatedData(
        features("train", experiment.views, train), labels[0], features("test", 0, test)[0], labels[1],
        _rows(shares.train, order), _rows(shares.test, order), plain)


def _in_half(table: np.ndarray, used: np.ndarray, device: str) -> torch.Tensor:
    """Features of every image position, (V, n, M, d), on a GPU, view by view, in fp16.

    Fifty views of 1,632 images, as many as Flowers102's runs have, take 15 GiB in fp32. Entries of unit vectors lose
    less to fp16 than to bf16.
    """
    held = torch.empty(len(table), len(used), *table.shape[2:], dtype=torch.float16, device=device)
    for view, features in enumerate(table):
        held[view].copy_(torch.from_numpy(features[used]))
    return held


def _rows(shares: Sequence[np.ndarray], order: Sequence[int]) -> list[np.ndarray]:
    """The clients' rows of what was concatenated in the given order, in client order."""
    ends = np.cumsum([len(shares[client]) for client in order])
    rows = dict(zip(order, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))
    return [rows[client] for client in range(len(shares))]


def _cohort_bytes(device: str) -> int:
    """Memory for a cohort's training step: 2 GiB in main memory, half of what is free on a GPU."""
    if not device.startswith("cuda"):
        return 2 * 2**30
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for what comes next
    return (torch.cuda.mem_get_info(device)[0] + kept) // 2
