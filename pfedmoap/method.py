"""What a method is: a small object that says what is shared, what stays, and how a client learns.

The round loop and the cohort trainer know these verbs and no method by name. Tensors travel in dictionaries by name.
Verbs for one client see single tensors; verbs for a cohort see tensors with a leading `clients` axis.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pfedmoap.errors import PfedmoapError
from pfedmoap.prompts import TextFeatures
from pfedmoap.server import Server, Tensors, weighted_average


class NotCommon(PfedmoapError, AttributeError):
    """A loss looks at something that differs between the seeds of a batch."""


@dataclass(frozen=True)
class Common:
    """What a loss may look at. It is the same for all seeds of an experiment, as they may train as one batch.

    Attributes:
        text: prompts (..., m, e) -> text features (..., C, d).
        handwritten: (C, d) features of "a photo of a {name}.".
        logit_scale: s.
    """

    text: TextFeatures
    handwritten: Tensor
    logit_scale: float

    def __getattr__(self, name: str):
        if name in ("seed", "initial_prompt"):
            raise NotCommon(f"Several runs train as one batch here, each with a {name} of its own, and their loss "
                            f"cannot look at it: take what it needs from the method's `fixed` tensors, or train every "
                            f"run by itself (run_all(..., seeds_per_batch=1), --seeds-per-batch 1).")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


@dataclass(frozen=True)
class Context(Common):
    """What every client and the server of a run know: the frozen CLIP's side and the run's seed.

    Attributes:
        initial_prompt: (m, e), everyone's start.
        seed: the run's seed.
    """

    initial_prompt: Tensor
    seed: int

    @property
    def common(self) -> Common:
        """What the run has in common with those that have another seed."""
        return Common(self.text, self.handwritten, self.logit_scale)


class OwnImages(NamedTuple):
    """A client's training images as they would be tested, without augmentation: (n_i, d) features, (n_i,) labels."""

    features: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Method:
    """Base of all methods. The defaults are PromptFL: one shared prompt, averaged, tested as it is.

    A subclass sets `name` and `title`, adds its settings as dataclass fields, and overrides what differs.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    everyone: ClassVar[bool] = False  # all clients train in every round, whatever the participation
    keeps_optimizer: ClassVar[bool] = False  # momentum and schedule go on over the rounds, on the client
    remembers_images: ClassVar[bool] = False  # its test looks at the client's own training images
    spatial: ClassVar[bool] = False  # sees every image position, (..., M, d), in place of the global feature (..., d)
    plain: ClassVar[bool] = False  # learns no prompt but a classifier of image features: what a user would pick instead
    waits: ClassVar[bool] = False  # its loss looks at numbers of its own, for which a GPU's host has to wait

    def check(self, features: int, tokens: int) -> None:
        """Refuses settings that do not fit the CLIP's feature width d or the m context tokens, before any work."""

    @property
    def fine_tuning_epochs(self) -> int:
        """Local epochs in which every client fine-tunes after the last round. By default none."""
        return 0

    # --- on the server

    def initial_shared(self, context: Context) -> Tensors:
        """The global tensors before round 1."""
        return {"prompt": context.initial_prompt}

    def download(self, server: Server, client: int) -> Tensors:
        """What the server sends to one client; nothing else reaches it."""
        return dict(server.shared)

    def enter(self, server: Server, uploads: Mapping[int, Tensors]) -> None:
        """Takes the round's prompts into the pool (eq. 7), for methods that have one. By default there is none."""

    def aggregate(self, server: Server, uploads: Mapping[int, Tensors], sizes: Mapping[int, int]) -> None:
        """Makes the global tensors from a round's uploads. By default each is the average, weighted by n_i (eq. 6)."""
        for name in server.shared:
            server.shared[name] = weighted_average({i: upload[name] for i, upload in uploads.items()}, sizes)

    # --- on one client

    def start(self, download: Tensors, personal: Tensors, client: int, context: Context) -> Tensors:
        """The tensors that the client trains, as they are before the first step."""
        return dict(download)

    def tested(self, download: Tensors, personal: Tensors, client: int, context: Context) -> Tensors:
        """The model that the client is tested with, given what it would download now. By default `start`'s."""
        return self.start(download, personal, client, context)

    def upload(self, trained: Tensors) -> Tensors:
        """What the client sends back. By default everything it trained."""
        return trained

    def keep(self, trained: Tensors) -> Tensors:
        """What stays on the client until its next participation. By default nothing."""
        return {}

    def keep_final(self, trained: Tensors) -> Tensors:
        """What the client keeps after the final fine-tuning, for methods that have one."""
        return trained

    # --- on a cohort

    def fixed(
        self, model: Tensors, downloads: Sequence[Tensors], context: Context, cached: Sequence[OwnImages] | None = None
    ) -> Tensors:
        """Tensors that the logits need and no step changes, with a leading clients axis.

        Args:
            cached: at test time only, and only for methods that remember images: each client's.
        """
        return {}

    def widen(
        self, model: Tensors, fixed: Tensors, downloads: Sequence[Tensors], context: Context
    ) -> tuple[Tensors, Tensors]:
        """The model and its `fixed` tensors for more classes than it was trained on, whose first ones are those.

        By default a class is its name: the same prompts, experts and gate are used with the new names' text features.
        A method that knows classes by their images says what it answers for one that it has seen none of; a score of
        -inf is no answer.

        Args:
            fixed: for the classes it was trained on, as at test time.
            context: for all classes.
        """
        return model, self.fixed(model, downloads, context)

    def logits(self, model: Tensors, fixed: Tensors, images: Tensor, context: Common) -> Tensor:
        """Class scores. images (clients, B, d) -> (clients, B, C). By default s times the cosine (equation 3)."""
        return context.logit_scale * images @ context.text(model["prompt"]).transpose(1, 2)

    def loss(
        self, model: Tensors, fixed: Tensors, images: Tensor, labels: Tensor, present: Tensor, context: Common
    ) -> Tensor:
        """Each client's loss: (clients,). By default the mean cross-entropy over all C classes.

        Args:
            images: (clients, B, d); labels: (clients, B); present: (clients, B) bool, False for padding.
        """
        logits = self.logits(model, fixed, images, context)  # (clients, B, C)
        return mean_cross_entropy(logits, labels, present)

    def examine(
        self, model: Tensors, fixed: Tensors, images: Tensor, context: Common
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The logits at test time, and numbers about the model for the record: name -> (clients, B)."""
        return self.logits(model, fixed, images, context), {}

    def learning_rate(self, name: str, lr: float) -> float:
        """The learning rate of a trained tensor, given the experiment's."""
        return lr


def mean_cross_entropy(logits: Tensor, labels: Tensor, present: Tensor) -> Tensor:
    """Mean over each client's images: (clients, B, C), (clients, B), (clients, B) -> (clients,)."""
    per_image = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
    return torch.where(present, per_image, 0).sum(1) / present.sum(1)
