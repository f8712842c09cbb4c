"""Where the paper and the authors' released code differ: one named switch each (SPEC 9).

Every switch has two values, the paper's, which is the default, and the released code's. Three more differences are
settings of `PFedMoAP`, with the released code's value as the default under every protocol: `attention_scale`,
`moe_similarity` and `pooling`.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pfedmoap.errors import UserError, refuse_unknown

DATA_SEED = 2023  # what the released code always draws shots and partitions with


class Switch(NamedTuple):
    """A difference between paper and released code: its two values, and one line about it."""

    paper: str
    released: str
    help: str


def _switch(paper: str, released: str, help: str):
    return field(default=paper, metadata={"switch": Switch(paper, released, help)})


@dataclass(frozen=True)
class Protocol:
    """Which of the two forms each step of an experiment has; by default the paper's.

    What the released values do is said where they are implemented: `data.pairing` (label_pairing, class_names),
    `data.partition` (class_deal), `data.features` (cifar_preprocess), `server` (expert_selection), `turns` (optimizer,
    round_order), `prompts` (prompt_init), `methods.fedprox` (fedprox_gradient), `client.local_update` (precision),
    and `paper.experiment` (coop_epochs, which nothing else looks at).

    Raises:
        UserError: a value that is neither of a switch's two.
    """

    label_pairing: str = _switch(
        "matched", "mispaired", "Domain sets: a client's labels belong to its images, or to other images of the domain."
    )
    class_names: str = _switch(
        "matched", "shuffled", "Domain sets: the classes' names are in label order, or in a random order."
    )
    expert_selection: str = _switch(
        "nearest", "fixed_order", "Experts are the K nearest in the pool, or the first K of one order for everyone."
    )
    optimizer: str = _switch(
        "per_client", "shared", "Every client has a fresh optimiser, or all take turns at one, its schedule included."
    )
    round_order: str = _switch(
        "synchronous", "sequential", "Clients see the pool as it was before the round, or what earlier ones just sent."
    )
    prompt_init: str = _switch(
        "random", "word_false", "Prompts start from random context tokens, or from the one word 'False'."
    )
    cifar_preprocess: str = _switch(
        "clip", "cifar", "CIFAR: CLIP's own preprocessing, or CIFAR's mean and std before a bilinear resize."
    )
    fedprox_gradient: str = _switch(
        "proximal", "detached", "FedProx: its term has a gradient, or none, which makes it PromptFL."
    )
    coop_epochs: str = _switch(
        "full", "one_round", "CoOp: 25 epochs (other profiles: the other methods' budget), or one round's."
    )
    data_seed: str = _switch(
        "per_seed", "fixed", f"Shots and partition are drawn from the run's seed, or always from {DATA_SEED}."
    )
    class_deal: str = _switch(
        "even", "rounded", "Label-disjoint clients: classes dealt evenly, or round(C/N) each and the rest to the last."
    )
    precision: str = _switch(
        "fp32", "fp16", "Prompts, gates, gradients and momentum are stored in fp32, or in fp16 without loss scaling."
    )

    def __post_init__(self):
        for name, switch in SWITCHES.items():
            if getattr(self, name) not in (switch.paper, switch.released):
                raise UserError(
                    f"The protocol's {name} must be {switch.paper!r} (paper) or {switch.released!r} (released code), "
                    f"not {getattr(self, name)!r}."
                )

    def __str__(self) -> str:
        """What `parse_protocol` reads: a preset, or the switches that have the released code's value."""
        for name, preset in PRESETS.items():
            if self == preset:
                return name
        return ",".join(name for name, switch in SWITCHES.items() if getattr(self, name) == switch.released)

    @classmethod
    def from_dict(cls, plain: Mapping[str, str]) -> "Protocol":
        """The inverse of `dataclasses.asdict`; unknown switches are refused, with the closest one that exists."""
        refuse_unknown(plain, list(SWITCHES), "protocol switch")
        return cls(**plain)


SWITCHES: dict[str, Switch] = {item.name: item.metadata["switch"] for item in dataclasses.fields(Protocol)}


def released(*names: str) -> Protocol:
    """The paper's protocol with some switches as in the released code.

    Raises:
        UserError: there is no such switch; the closest is suggested.
    """
    refuse_unknown(names, list(SWITCHES), "protocol switch")
    return Protocol(**{name: SWITCHES[name].released for name in names})


PAPER = Protocol()
RELEASED = released(*SWITCHES)
PRESETS = {"paper": PAPER, "released": RELEASED}


def parse_protocol(text: str) -> Protocol:
    """A protocol from text: a preset's name, or the switches that are as in the released code, with commas between.

    Raises:
        UserError: neither a preset nor switches.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if len(names) == 1 and names[0] in PRESETS:
        return PRESETS[names[0]]
    refuse_unknown(names or [text], [*PRESETS, *SWITCHES], "protocol or switch")
    return released(*names)
