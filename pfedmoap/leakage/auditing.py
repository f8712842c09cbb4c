"""One federated run, listened to and attacked: what uploads and lent prompts tell about the clients' images.

Shadow clients train on the run's own augmented views and on halves of the candidates; see `shadows` on where this, in
profile "paper", gives them more or less than an adversary or the client has.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pfedmoap.data import image_features
from pfedmoap.errors import UserError
from pfedmoap.evaluation import evaluate
from pfedmoap.experiments import Experiment, Place, Prepared, prepare
from pfedmoap.leakage import attacks, bounds, candidates, decoding, ownership
from pfedmoap.leakage.candidates import Candidates
from pfedmoap.leakage.lending import average_leak, borrowed
from pfedmoap.leakage.listening import Heard, listen
from pfedmoap.leakage.scoring import auc
from pfedmoap.leakage.shadows import ADVERSARY, train_shadows
from pfedmoap.released import PAPER
from pfedmoap.system import cache_dir

RECIPE = 1  # raise it when an attack changes: stored audits are known by it

Audit = dict[str, Any]


def audit(experiment: Experiment, place: Place = Place(), shadows: int = 32) -> Audit:
    """Runs an experiment, and every attack on the clients that took part in its last round.

    Args:
        shadows: shadow clients per client; even, so that every image is in half of them.

    Returns:
        Plain data, fit for JSON: the experiment, its accuracies (0 to 1) with own and with uploaded prompts, "shift"
        (`bounds.shift`), per client the scores and areas under the curve of the attacks, what others learn, and the
        first client's upload in words.

    Raises:
        UserError: not under the paper's protocol, nothing is uploaded, an odd number of shadows, or no images are left
            to compare members with.
    """
    if experiment.protocol != PAPER:
        raise UserError("What prompts tell is measured under the paper's protocol only: leave out --protocol.")
    if shadows < 4 or shadows % 2:
        raise UserError(f"shadows must be an even number of at least 4, not {shadows}.")
    prepared = prepare(experiment, place)
    heard = listen(prepared)
    asked, public = candidates.draw(prepared.imageset, prepared.partition, sorted(heard[-1].uploads), experiment.seed)
    views, plain = _features(prepared, place, np.concatenate([public, *(one.images for one in asked)]))
    return {
        "experiment": experiment.to_dict(), "shadows": shadows, "accuracy": _accuracies(prepared, heard[-1].uploads),
        "shift": bounds.shift(experiment.privacy, experiment.rounds) if experiment.privacy else float("inf"),
        "clients": _with_ownership(prepared, heard, public, plain, [
            _of_client(prepared, heard, one, views, plain, shadows) for one in asked]),
        "words": decoding.table(prepared.clip, prepared.federation.context.initial_prompt,
                                heard[-1].uploads[asked[0].client]).to_dict("tight"),
        "others": borrowed(prepared.federation, heard),
        "average": average_leak(prepared.federation, heard[-1].start, asked, plain),
    }  # fmt: skip


def _features(prepared: Prepared, place: Place, images: np.ndarray) -> tuple[Tensor, Tensor]:
    """Features of training images, as they are trained on (V, n, d) and as they are tested (n, d).

    They are rows of the whole split; those of other images are not defined.
    """
    experiment, device = prepared.experiment, place.device
    trained, tested = (
        image_features(prepared.clip, prepared.imageset, "train", views, cache_dir=place.cache or cache_dir(),
                       seed=experiment.seed, indices=images, progress=False)
        for views in (experiment.views if prepared.imageset.augment else 0, 0))
    return torch.from_numpy(np.array(trained)).to(device), torch.from_numpy(np.array(tested[0])).to(device)


def _accuracies(prepared: Prepared, uploads: dict[int, Tensor]) -> dict[str, float]:
    """Mean over clients, 0 to 1: tested with their own prompts, and with those that they uploaded."""
    federation = prepared.federation
    uploaded = {client: own | ({"prompt": uploads[client]} if "prompt" in own and client in uploads else {})
                for client, own in federation.personal.items()}
    return {name: float(np.mean(evaluate(federation.method, federation.server, personal, federation.data,
                                         federation.context).accuracies))
            for name, personal in (("own", federation.personal), ("uploaded", uploaded))}


def _of_client(
    prepared: Prepared, heard: Sequence[Heard], asked: Candidates, views: Tensor, plain: Tensor, shadows: int
) -> dict[str, Any]:
    """The attacks on one client's images, and its prompt in words."""
    context, clip, imageset = prepared.federation.context, prepared.clip, prepared.imageset
    starts, uploads = _path(heard, asked.client)
    owned = np.isin(np.arange(len(imageset.class_names)), prepared.partition.train_labels[asked.client])
    nearer, came_nearer = decoding.names_nearer(clip, imageset.class_names, owned, context.initial_prompt, uploads[-1])
    return {
        "client": asked.client, "member": asked.member.tolist(), "owned": owned.tolist(),
        "membership": _membership(prepared, heard[-1], asked, starts, uploads, views, plain, shadows),
        "decoding": {"unchanged": decoding.unchanged(clip, context.initial_prompt, uploads[-1]),
                     "nearer": nearer, "came nearer": came_nearer},
    }  # fmt: skip


def _path(heard: Sequence[Heard], client: int) -> tuple[Tensor, Tensor]:
    """What a client was sent and sent back in each of its rounds: (T, m, e), (T, m, e)."""
    own = [entry for entry in heard if client in entry.uploads]
    return torch.stack([entry.start for entry in own]), torch.stack([entry.uploads[client] for entry in own])


def _with_ownership(
    prepared: Prepared, heard: Sequence[Heard], public: np.ndarray, plain: Tensor, clients: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The clients with a score per class, and the areas under the curve."""
    labels = torch.from_numpy(prepared.imageset.train.labels[public]).to(plain.device)
    single = [ownership.class_scores(*_path(heard, one["client"]), plain[public], labels, prepared.federation.context)
              for one in clients]
    scores = {name: torch.stack([each[name] for each in single]).cpu() for name in single[0]}  # (clients, C)
    scores |= {ownership.OTHERS: ownership.against_others(scores[ownership.LOSS]),
               ownership.OTHERS_ALL: ownership.against_others(scores[ownership.LOSS_ALL])}
    for row, one in enumerate(clients):
        one["ownership"] = {name: score[row].tolist() for name, score in scores.items()}
        one["ownership auc"] = {name: auc(score, one["owned"]) for name, score in one["ownership"].items()}
    return clients


def _membership(
    prepared: Prepared, last: Heard, asked: Candidates, starts: Tensor, uploads: Tensor, views: Tensor, plain: Tensor,
    shadows: int,
) -> dict[str, list[float]]:  # fmt: skip
    """Attack -> a score per candidate."""
    if not len(asked.images):
        return {name: [] for name in attacks.ATTACKS}
    federation, client, seed = prepared.federation, asked.client, prepared.experiment.seed + ADVERSARY
    context, privacy = federation.context, federation.plan.privacy
    features, labels = plain[asked.images], torch.from_numpy(asked.labels).to(plain.device)
    halves = asked.halves(shadows, seed)  # (S, n)
    trained = train_shadows(
        federation.method, federation.plan.recipe, replace(context, seed=seed), last.downloads[client],
        [np.flatnonzero(half) for half in halves], views[:, asked.images], labels, number=last.number,
        past_epochs=last.past_epochs[client], seed=seed, ids=[client * shadows + shadow for shadow in range(shadows)],
        sigma=federation.sigma(client) if privacy else None,
        cohort=max(1, federation.plan.cohort_bytes // context.text.encoder.bytes_per_prompt()))
    before, after, inner = (attacks.confidence(prompts, features, labels, context)
                            for prompts in (starts, uploads, trained))  # (T, n), (T, n), (S, n)
    rest = [prompt for other, prompt in last.uploads.items() if other != client]
    others = attacks.confidence(torch.stack(rest), features, labels, context) if rest else after[:0]  # (clients, n)
    inside = torch.from_numpy(halves).to(plain.device)
    fell = attacks.calibrated_loss(after, before)  # (T, n)
    scores = {attacks.LOSS: attacks.loss_threshold(after[-1]), attacks.CALIBRATED: fell[-1],
              attacks.CALIBRATED_ALL: fell.sum(0),
              attacks.OTHERS: attacks.loss_against_others(after[-1], others),
              attacks.LIRA: attacks.likelihood_ratio(after[-1], inner, inside),
              attacks.DIRECTION: attacks.prompt_direction(uploads[-1], trained, inside.cpu())}
    return {name: score.double().cpu().tolist() for name, score in scores.items()}
