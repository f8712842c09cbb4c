"""A federation under attack: honest clients, attackers, what the server lets in, and what the honest have of it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pfedmoap.data import image_features
from pfedmoap.errors import UserError
from pfedmoap.evaluation import evaluate_clients
from pfedmoap.experiments import Experiment, Place, Prepared, prepare
from pfedmoap.federation import Federation
from pfedmoap.flower import Incoming, Ingest, Refused, pack
from pfedmoap.poisoning.attacks import BACKDOOR, FLIPPING, NONE, Attack, backdoored, boosted, flipped, target_class
from pfedmoap.poisoning.attention import attention_to
from pfedmoap.poisoning.triggers import Trigger, stamped
from pfedmoap.protection import build_filter, take_in
from pfedmoap.released import PAPER
from pfedmoap.server import Tensors
from pfedmoap.system import cache_dir

MARGIN = 0.9  # of the limit on the norm: attackers do not know how the others' uploads move the median


@dataclass(frozen=True)
class Scenario:
    """A run under attack. Whoever might attack is never tested, so that all scenarios of a seed test the same clients.

    Attributes:
        experiment: the federation.
        attack: what is done to it.
        filter: what the server does about it, by name.
        bystanders: how many clients, of those who might attack, are left out of the test at least.
    """

    experiment: Experiment
    attack: Attack = Attack()
    filter: str = "none"
    bystanders: int = 3

    @property
    def label(self) -> str:
        """The name of its result."""
        kind = self.attack.kind.replace(" ", "-")
        return f"{self.experiment.label}-{kind}-{self.attack.attackers}x{self.attack.boost:.3g}-{self.filter}"


def poisoned(scenario: Scenario, place: Place = Place(), trigger: Trigger = Trigger()) -> dict[str, Any]:
    """Runs a scenario.

    Returns:
        Plain data, fit for JSON: the experiment, attack and filter; "target", the backdoor's class; "attackers"; and of
        the clients that are tested, in their order, "clients", "accuracy" on their test images, "success", the share of
        their test images with the trigger, the target's own left out, that is answered with the target (0 to 1; None
        without any), and "attention" to the attackers' experts on these (`attention_to`);
        "uploads" and "refused", each {"honest", "attackers"}, of all rounds; "reasons" of the refusals by ingest.

    Raises:
        UserError: not under the paper's protocol, views are augmented, or nothing is uploaded.
    """
    experiment, attack = scenario.experiment, scenario.attack
    prepared = prepare(experiment, place)
    if experiment.protocol != PAPER or prepared.imageset.augment and experiment.views:
        raise UserError("Poisoning is measured under the paper's protocol and without augmentation: leave out "
                        "--protocol, and set views=0.")
    federation = prepared.federation
    train, test = _with_trigger(prepared, place, trigger)
    target = target_class(federation.data, experiment.seed)
    bad = attack.by(experiment.clients, experiment.seed) if attack.kind != NONE else []
    count = {"uploads": {"honest": 0, "attackers": 0}, "refused": {"honest": 0, "attackers": 0}}
    reasons = _run(federation, _attackers_side(prepared, attack, bad, train, target), scenario, bad, count)
    apart = replace(attack, attackers=max(scenario.bystanders, attack.attackers))
    asked = [client for client in range(experiment.clients)
             if client not in apart.by(experiment.clients, experiment.seed)]
    return {"experiment": experiment.to_dict(), "attack": asdict(attack), "filter": scenario.filter, "target": target,
            "attackers": bad, "clients": asked, **count, "reasons": reasons,
            "accuracy": _accuracy(federation, asked), "success": _success(federation, asked, test, target),
            "attention": [attention_to(federation, client, bad, test[_others(federation, client, target)])
                          for client in asked]}


def _with_trigger(prepared: Prepared, place: Place, trigger: Trigger) -> tuple[Tensor, Tensor]:
    """Features of all clients' images with the trigger: training (1, n, d) and test (n', d), in the data's order."""
    marked, shares = stamped(prepared.imageset, trigger), prepared.partition
    found = []
    for split in ("train", "test"):
        used = np.concatenate(getattr(shares, split))
        table = image_features(prepared.clip, marked, split, 0, cache_dir=place.cache or cache_dir(), indices=used,
                               progress=False, spatial=prepared.experiment.method.spatial)
        found.append(torch.from_numpy(np.array(table[:, used])).to(place.device))
    return found[0], found[1][0]


def _attackers_side(
    prepared: Prepared, attack: Attack, bad: Sequence[int], stamped_train: Tensor, target: int
) -> Federation:
    """The same federation as attackers see it: their own images and labels are what they want them to be."""
    own = prepared.federation
    data = own.data
    if attack.kind == FLIPPING:
        data = flipped(data, bad, len(prepared.imageset.class_names))
    elif attack.kind == BACKDOOR:
        data = backdoored(data, bad, stamped_train.expand(len(data.train_features), *stamped_train.shape[1:]), target)
    return Federation(own.method, own.plan, data, own.context)


def _run(
    honest: Federation, attackers: Federation, scenario: Scenario, bad: Sequence[int], count: Mapping[str, dict]
) -> list[str]:
    """All rounds; counts uploads and refusals, and returns why ingest refused some."""
    key, chosen, reasons = scenario.experiment.key, build_filter(scenario.filter), []
    ingest = Ingest(key)
    for number in range(1, scenario.experiment.rounds + 1):
        downloads = honest.downloads(honest.sample(number))
        templates = honest.method.upload(honest.start(0, downloads[min(downloads)]))
        if not templates:
            raise UserError(f"The clients of {honest.method.title} upload nothing that could be poisoned: choose "
                            f"another method.")
        ingest.open(number, "upload", downloads)
        sent = _sent(honest, attackers, downloads, number, bad, scenario.attack.boost,
                     {name: MARGIN * ingest.norm_limit * ingest.usual_norm(name, templates) for name in templates})
        uploads = {}
        for client, upload in sent.items():
            about = {"experiment": key, "round": number, "client": client, "loss": 0.0}
            try:
                uploads[client] = ingest.upload(Incoming(client, about, pack(upload)), templates).upload
            except Refused as error:
                reasons.append(f"round {number}, client {client}: {error}")
        refused = set(take_in(honest, uploads, chosen)) | (set(sent) - set(uploads))
        for client in sent:
            side = "attackers" if client in bad else "honest"
            count["uploads"][side] += 1
            count["refused"][side] += client in refused
    return reasons


def _sent(
    honest: Federation, attackers: Federation, downloads: Mapping[int, Tensors], number: int, bad: Sequence[int],
    boost: float, limits: Mapping[str, float],
) -> dict[int, Tensors]:  # fmt: skip
    """What every client sends, by client."""
    of = {True: {}, False: {}}
    for client, download in downloads.items():
        of[client in bad][client] = download
    sent = {update.client: update.upload for update in honest.train(of[False], number)}
    for update in attackers.train(of[True], number):
        sent[update.client] = boosted(update.upload, downloads[update.client], boost, limits)
    return dict(sorted(sent.items()))


def _accuracy(federation: Federation, asked: Sequence[int]) -> list[float]:
    lent = federation.downloads(asked)
    return evaluate_clients(federation.method, lent, federation.personal, federation.data,
                            federation.context).accuracies


def _success(federation: Federation, asked: Sequence[int], images: Tensor, target: int) -> list[float | None]:
    """Share of each client's images with the trigger that its model answers with the target; None without any."""
    data, labels = federation.data, federation.data.test_labels
    rows = [_others(federation, client, target) for client in range(data.clients)]
    triggered = replace(data, test_features=images, test_labels=torch.full_like(labels, target), test_rows=rows)
    with_any = [client for client in asked if len(rows[client])]
    found = evaluate_clients(federation.method, federation.downloads(with_any), federation.personal, triggered,
                             federation.context).accuracies
    return [dict(zip(with_any, found, strict=True)).get(client) for client in asked]


def _others(federation: Federation, client: int, target: int) -> np.ndarray:
    """Rows of a client's test images that are not of the target class."""
    own, labels = federation.data.test_rows[client], federation.data.test_labels
    return own[(labels[torch.from_numpy(own).to(labels.device)] != target).cpu().numpy()]
