"""Everything that defines a run, in one frozen value."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from pfedmoap.beyond import LOCAL, QUESTIONS, NewClients, Question, question
from pfedmoap.checkpoints import ASSETS
from pfedmoap.client import Recipe
from pfedmoap.data import PARTITIONS, refuse_unknown_partition
from pfedmoap.errors import UserError, refuse_unknown, require
from pfedmoap.methods import METHODS, Method, PFedMoAP
from pfedmoap.privacy import Privacy
from pfedmoap.released import PAPER, SWITCHES, Protocol
from pfedmoap.system import as_file_name

PROTOCOL_HELP = (
    "Where the two differ: paper, released, or, with commas between, what shall be as in the released code. "
    + " ".join(f"{name}: {switch.help}" for name, switch in SWITCHES.items())
)


def setting(default: Any, panel: str, help: str):
    """A field of `Experiment`: its default, the panel of the command line's help it stands in, and what it means."""
    return field(default=default, metadata={"panel": panel, "help": help})


@dataclass(frozen=True)
class Experiment:
    """One federated run. Two equal experiments give the same result; anything that changes a result is in here.

    Where the data lies, the device, the number of processes are not: they belong to `runs.run`.

    Raises:
        UserError: a setting out of range, named with what is allowed.
    """

    dataset: str = setting("animals", "Data", "Data set: an embedded one, or caltech101 (see `pfedmoap info`).")
    method: Method = field(default_factory=PFedMoAP)
    seed: int = setting(1, "Data", "Seed of the partition, the shots, the prompts, the gates and the batches.")
    clients: int = setting(10, "Data", "N, number of clients.")
    partition: str = setting("label_disjoint", "Data", f"How images are dealt: {', '.join(PARTITIONS)}, flwr:NAME.")
    alpha: float = setting(0.5, "Data", "Concentration of the Dirichlet partitions; smaller is more heterogeneous.")
    shots: int | None = setting(16, "Data", "Training images per class; 'none' takes all.")
    views: int = setting(1, "Data", "V, augmented training views per image; 0 trains on the test view.")
    test_images: int | None = setting(None, "Data", "Test images of each client, drawn by the seed; 'none' takes all.")
    model: str = setting("embedded_clip", "Frozen CLIP", "open_clip model name, such as RN50-quickgelu.")
    weights: str | None = setting(None, "Frozen CLIP", "Pretrained tag (openai) or file; default: shipped weights.")
    precision: str = setting("fp32", "Frozen CLIP", "Of the frozen towers: fp32 or bf16.")
    context_tokens: int = setting(16, "Training", "m, learned context tokens of a prompt.")
    rounds: int = setting(10, "Training", "T, federated rounds.")
    participation: float = setting(1.0, "Training", "r, share of clients that train in a round.")
    local_epochs: int = setting(5, "Training", "E, local epochs per round.")
    batch_size: int = setting(16, "Training", "Images per local step.")
    lr: float = setting(0.002, "Training", "Learning rate of the prompt.")
    momentum: float = setting(0.9, "Training", "SGD's momentum.")
    weight_decay: float = setting(5e-4, "Training", "SGD's weight decay.")
    schedule: str = setting("constant", "Training", "Learning rate over the local epochs: constant or cosine.")
    epsilon: float | None = setting(None, "Privacy", "Differential privacy of uploads; inf clips only, none: off.")
    delta: float = setting(0.05, "Privacy", "Failure probability.")
    clip: float = setting(1.0, "Privacy", "C, bound on the norm of a step's gradient of what is uploaded.")
    dp_accounting: str = setting("upload", "Privacy", "What epsilon covers: each upload, or their total.")
    dp_test_prompt: str = setting("own", "Privacy", "Clients are tested with their own prompt, or the uploaded one.")
    protocol: Protocol = setting(PAPER, "Paper or released code", PROTOCOL_HELP)
    evaluate: str = setting(LOCAL, "Beyond the paper", f"What else is tested after the last round: {QUESTIONS}.")

    def __post_init__(self):
        def whole(name: str, least: int) -> tuple[bool, str]:
            value = getattr(self, name)
            return _is_whole(value) and value >= least, f"a whole number >= {least}"

        def none_or_whole(name: str) -> tuple[bool, str]:
            return getattr(self, name) is None or whole(name, 1)[0], "None or >= 1"

        require(self, {
            "method": (isinstance(self.method, Method), f"a method such as {', '.join(METHODS)}"),
            "seed": whole("seed", 0),
            "clients": whole("clients", 1),
            "alpha": (self.alpha > 0, "a number > 0"),
            "shots": none_or_whole("shots"),
            "views": whole("views", 0),
            "test_images": none_or_whole("test_images"),
            "precision": (self.precision in ("fp32", "bf16"), "fp32 or bf16"),
            "context_tokens": whole("context_tokens", 1),
            "rounds": whole("rounds", 1),
            "participation": (0 < self.participation <= 1, "a number > 0 and <= 1"),
            "local_epochs": whole("local_epochs", 1),
            "batch_size": whole("batch_size", 1),
            "lr": (self.lr >= 0, "a number >= 0"),
            "momentum": (0 <= self.momentum < 1, "a number >= 0 and < 1"),
            "weight_decay": (self.weight_decay >= 0, "a number >= 0"),
            "schedule": (self.schedule in ("constant", "cosine"), "constant or cosine"),
            "protocol": (isinstance(self.protocol, Protocol), "a Protocol, such as PAPER or RELEASED"),
        })
        refuse_unknown_partition(self.partition)
        object.__setattr__(self, "evaluate", str(self.question))  # one spelling, one key
        experts = getattr(self.method, "experts", None)
        if isinstance(experts, tuple) and len(experts) != self.clients:
            raise UserError(f"experts lists {len(experts)} numbers for {self.clients} clients: give one per client.")

        if self.beyond and self.protocol != PAPER:
            raise UserError(f"evaluate {self.evaluate} is asked under the paper's protocol: leave out protocol.")
        if isinstance(self.question, NewClients) and isinstance(experts, tuple):
            raise UserError("experts lists a number per client, and new clients have none: give one number for all.")
        _ = self.privacy  # refuses what makes no sense

    @property
    def beyond(self) -> bool:
        """Whether more is asked than the paper's test."""
        return self.evaluate != LOCAL

    @property
    def question(self) -> Question:
        """What `evaluate` asks."""
        return question(self.evaluate)

    @property
    def recipe(self) -> Recipe:
        return Recipe(self.local_epochs, self.batch_size, self.lr, self.momentum, self.weight_decay, self.schedule,
                      clip=None if self.epsilon is None else self.clip)

    @property
    def privacy(self) -> Privacy | None:
        if self.epsilon is None:
            return None
        for switch in ("optimizer", "round_order", "precision"):  # a released value voids what the noise is made for
            if (value := getattr(self.protocol, switch)) == SWITCHES[switch].released:
                raise UserError(f"There is no differential privacy with the protocol switch {switch} {value!r}, which "
                                f"carries what one client trained on to the next, or rounds it: leave out that switch "
                                f"or epsilon.")
        return Privacy(self.epsilon, self.delta, self.clip, self.dp_accounting, self.dp_test_prompt)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON; the method becomes {"name": ..., its settings}."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain["method"] = {"name": self.method.name} | dataclasses.asdict(self.method)
        plain["protocol"] = dataclasses.asdict(self.protocol)
        if self.epsilon == math.inf:
            plain["epsilon"] = "inf"  # JSON has no infinity
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Experiment":
        """The inverse of `to_dict`; unknown settings are refused by name."""
        plain = dict(plain)
        refuse_unknown(plain, [field.name for field in dataclasses.fields(cls)], "setting")
        if "method" in plain:
            settings = dict(plain["method"])
            plain["method"] = build_method(settings.pop("name"), **settings)
        if "protocol" in plain:
            plain["protocol"] = Protocol.from_dict(plain["protocol"])
        if plain.get("epsilon") == "inf":
            plain["epsilon"] = math.inf
        return cls(**plain)

    @property
    def key(self) -> str:
        """16 hex digits that stand for this experiment; a weights file, shipped or not, counts by its content."""
        plain = self.to_dict()
        if not self.beyond:
            del plain["evaluate"]  # the key that runs had when nothing else could be asked
        if self.test_images is None:
            del plain["test_images"]  # and when all images were tested
        path = Path(self.weights) if self.weights else ASSETS / f"{self.model}.safetensors"
        if path.is_file():
            plain["weights"] = _file_digest(str(path), path.stat().st_mtime_ns)
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """The name of its record: readable first, unique last."""
        return f"{as_file_name(self.dataset)}-{self.method.name}-s{self.seed}-{self.key}"


def build_method(name: str, **settings: Any) -> Method:
    """A method by name with its settings; unknown names and settings are refused, with the closest one that exists."""
    refuse_unknown([name], list(METHODS), "method")
    method = METHODS[name]
    refuse_unknown(settings, [field.name for field in dataclasses.fields(method)], f"setting of {name}")
    return method(**settings)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@lru_cache
def _file_digest(path: str, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
