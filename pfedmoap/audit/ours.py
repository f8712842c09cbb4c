"""The adapter of this package's own methods: it drives the round loop's public steps, and claims what the docs say."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pfedmoap.audit.adapter import Claims, Lent, Step
from pfedmoap.audit.case import Case
from pfedmoap.audit.findings import USUAL
from pfedmoap.client import FederatedData, Recipe
from pfedmoap.data import ImageSet, Partition, Split
from pfedmoap.evaluation import own_images, stack
from pfedmoap.federation import Federation, Plan, Round
from pfedmoap.method import Context, Method
from pfedmoap.methods import METHODS, FedProx
from pfedmoap.randomness import generator
from pfedmoap.released import PAPER, SWITCHES, Protocol, federation_for, mispaired, with_shuffled_names, word_prompt
from pfedmoap.server import Tensors

SMALL = {  # settings that suit the case
    "d_gating": 16, "heads": 4, "experts": 2, "key_steps": 10, "probe_steps": 10,
    "threshold": 1e-5,  # at FedOTP's own 1e-3, a last digit may decide when a transport stops: a difference of 3e-4
}
POSITIONS = 4  # M, for methods that see image positions
PROMPT = Claims(averaged=("prompt",))
CLAIMS = {  # of methods by name, as their docstrings have it; not read off their code, which may be wrong
    "coop": Claims(personal=("prompt",), optimizer="continues"),
    "promptfl": PROMPT,
    "promptfl_ft": PROMPT,
    "fedper": Claims(averaged=("shared",), personal=("own",)),
    "fedprox": PROMPT,
    "pfedprompt": PROMPT,
    "fedotp": Claims(averaged=("prompt",), personal=("own",),
                     documented={"gradients": "the transport plan has no gradient, as published"}),
    "fedpgp": Claims(averaged=("prompt",), personal=("left", "right")),
    "pfedmoap": Claims(averaged=("prompt",), personal=("gate.",), lent=Lent("experts", "prompt", SMALL["experts"]),
                       own_rates={"gate.": 0.01}),
    "fedavg_probe": Claims(averaged=("weights",)),
}
EXPLAINED = {  # switch -> checks that its released value fails
    "label_pairing": ("pairing", "own_labels", "own_images", "last_batch"),
    "class_names": ("names",),
    "expert_selection": ("neighbours",),
    "optimizer": ("moves", "gradients", "learning_rate", "momentum", "weight_decay", "order", "own_images", "padding",
                  "pairing", "last_batch"),
    "round_order": ("order", "neighbours", "own_images"),
    "fedprox_gradient": ("gradients",),
    "precision": ("moves", "gradients", "learning_rate", "momentum", "weight_decay", "average", "pairing", "order",
                  "padding"),
}


class MethodAdapter:
    """A method of this package as an `Adapter`.

    Args:
        method: settings included; each client trains as a cohort of one, which larger cohorts equal. What it claims is
            its attribute `claims`, if it has one; else what its name is known for; else that it averages prompts, as
            `Method` does.
        protocol: what its round loop and its data are like; the failures that this explains are claimed as documented.
        federation: makes the round loop.
    """

    def __init__(
        self, method: Method, protocol: Protocol = PAPER,
        federation: Callable[[Method, Plan, FederatedData, Context, Protocol], Federation] = federation_for,
    ):  # fmt: skip
        self.method, self.protocol, self.federation = method, protocol, federation
        usual = Claims() if method.name in METHODS else PROMPT
        claims: Claims = getattr(method, "claims", CLAIMS.get(method.name, usual))
        self.claims = replace(claims, documented={**released_faults(protocol, method), **claims.documented})

    def start(self, case: Case) -> None:
        imageset = ImageSet("golden", case.names, *(
            Split((), images.labels.numpy(), torch.zeros_like(images.labels).numpy()) for images in
            (case.train, case.test)), "", "made for the audit", domain_names=("all",))  # fmt: skip
        shares = Partition(case.train_rows, case.test_rows, *(
            tuple(images.labels[rows].numpy() for rows in dealt)
            for images, dealt in ((case.train, case.train_rows), (case.test, case.test_rows))))
        if self.protocol.label_pairing == "mispaired":
            shares = mispaired(imageset, shares, case.seed)
        context = case.context
        if self.protocol.class_names == "shuffled":
            context = case.context_of(with_shuffled_names(imageset, case.seed).class_names)
        if self.protocol.prompt_init == "word_false":
            context = replace(context, initial_prompt=word_prompt(case.clip, "False"))
        self.run = self.federation(self.method, Plan(case.rounds, 1.0, USUAL), self._data(case, shares), context,
                                   self.protocol)
        self.uploads: dict[int, Tensors] = {}

    def local_step(self, client: int, recipe: Recipe, before: Tensors | None = None) -> Step:
        run, number = self.run, len(self.run.history) + 1
        run.plan = replace(run.plan, recipe=recipe)
        downloads = run.downloads([client])
        for cohort in run.cohorts(downloads, number):  # one of one client, or none
            if before is not None:
                cohort = replace(cohort, start={name: before.get(name, tensor[0]).to(tensor.dtype)[None]
                                                for name, tensor in cohort.start.items()})
            trained = run.train_cohort(cohort)
            (update,) = run.upload(cohort, trained, number)
            self.uploads[client] = update.upload
            return Step(downloads[client], _first(cohort.start), _first(trained.tensors), update.loss)
        self.uploads[client] = {}
        return Step(downloads[client], {}, {}, 0.0)

    def upload(self, client: int) -> Tensors:
        return self.uploads[client]

    def aggregate(self, uploads: Mapping[int, Tensors]) -> None:
        run, number = self.run, len(self.run.history) + 1
        run.cache(uploads)
        run.average(uploads)
        if run.fine_tunes(number):
            run.fine_tune(run.downloads(range(run.data.clients)), number)
        run.test(Round(number, sorted(uploads)), 0.0)

    def predict(self, client: int, images: Tensor) -> Tensor:
        run, method = self.run, self.method
        download = method.download(run.server, client)
        model = stack([method.tested(download, run.personal[client], client, run.context)], torch.device("cpu"))
        model = {name: tensor.float() for name, tensor in model.items()}
        cached = [own_images(run.data, client)] if method.remembers_images else None
        fixed = method.fixed(model, [download], run.context, cached)
        with torch.no_grad():
            return method.examine(model, fixed, self._seen(images)[None], run.context)[0][0]

    def _data(self, case: Case, shares: Partition) -> FederatedData:
        """What the clients have, one after the other: images as the method sees them, and the labels they go by."""
        train, test = (self._seen(images.features[np.concatenate(own)])
                       for images, own in ((case.train, shares.train), (case.test, shares.test)))
        labels = [torch.from_numpy(np.concatenate(own)) for own in (shares.train_labels, shares.test_labels)]
        rows = [np.split(np.arange(sum(map(len, own))), np.cumsum([len(each) for each in own])[:-1])
                for own in (shares.train, shares.test)]
        return FederatedData(train[None], labels[0], test, labels[1], *rows)

    def _seen(self, features: Tensor) -> Tensor:
        """(n, d), or (n, M, d) for methods that see positions: each is the image's features, moved a little."""
        if not self.method.spatial:
            return features
        moved = torch.from_numpy(generator(1, "audit positions").standard_normal((POSITIONS, features.shape[-1])))
        return F.normalize(features[:, None] + 0.2 * moved.float(), dim=-1)


def small(method: type[Method]) -> Method:
    """A method with those of its settings that suit the case, the rest as they are."""
    return method(**{item.name: SMALL[item.name] for item in fields(method) if item.name in SMALL})


def released_faults(protocol: Protocol, method: Method) -> dict[str, str]:
    """Check -> the switches of the released code that a method is expected to fail it by, in words."""
    found: dict[str, list[str]] = {}
    for switch, checks in EXPLAINED.items():
        concerned = switch != "fedprox_gradient" or isinstance(method, FedProx)
        for check in checks if concerned and getattr(protocol, switch) == SWITCHES[switch].released else ():
            found.setdefault(check, []).append(switch)
    return {check: f"the released code's {' and '.join(switches)}" for check, switches in found.items()}


def _first(tensors: Tensors) -> Tensors:
    """The only client's tensors of a cohort's."""
    return {name: tensor[0].detach() for name, tensor in tensors.items()}
