"""What a profile sets: the paper's own settings (section 4.1), and small ones that fit a laptop."""

import ast
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pfedmoap.errors import UserError, refuse_unknown
from pfedmoap.experiments.experiment import Experiment
from pfedmoap.methods import Classifier, CoOp, Method
from pfedmoap.system import PROFILES

SEEDS = {"smoke": (1,), "quick": (1, 2, 3), "long": (1, 2, 3, 4, 5, 6), "paper": (1, 2, 3)}

# The paper's data sets, and the embedded ones that stand in for them outside the `paper` profile.
STAND_INS = {
    "Flowers102": ("flowers102", "nature"),
    "OxfordPets": ("oxford_pets", "animals"),
    "Food101": ("food101", "household"),
    "Caltech101": ("caltech101", "caltech40"),
    "DTD": ("dtd", "machines"),
    "CIFAR10": ("cifar10", "digits"),
    "CIFAR100": ("cifar100", "mixed40"),
    "DomainNet": ("domainnet", "domains"),
    "Office-Caltech10": ("office_caltech10", "office"),
}

# What a profile sets besides the data. `paper` is section 4.1; the others keep its learning rates and fit a laptop.
# `long` has the paper's budget on the embedded data. That of `quick` was chosen on their validation draws, not on the
# sets that are reported, as the smallest at which CoOp and FedOTP clearly leave zero-shot.
SETTINGS: dict[str, dict[str, Any]] = {
    "paper": dict(model="RN50-quickgelu", weights="openai", rounds=10, local_epochs=5, shots=16, batch_size=16),
    "long": dict(rounds=10, local_epochs=5, shots=16, batch_size=16),
    "quick": dict(rounds=4, local_epochs=5, shots=8, context_tokens=8, batch_size=8),
    "smoke": dict(rounds=2, local_epochs=1, shots=4, context_tokens=4, test_images=5),
}
_CIFAR = dict(partition="dirichlet", alpha=0.5, shots=None, clients=100, participation=0.1, rounds=120, batch_size=32,
              views=1)  # it is not augmented
_DOMAINS = dict(partition="domain_dirichlet", alpha=0.3, shots=None)
_VIT = dict(model="ViT-B-16-quickgelu", rounds=25, batch_size=32)
# Every client takes part in about four rounds of eight, as with fewer its gate would hardly be trained (SPEC 3).
_HALF = dict(rounds=8, participation=0.5, local_epochs=4, context_tokens=4)
_HALF_LONG = dict(rounds=20, participation=0.5)
_MIXED = dict(partition="dirichlet", alpha=0.5, shots=None, clients=10)
DATASET_SETTINGS: dict[tuple[str, str], dict[str, Any]] = {
    ("paper", "cifar10"): _CIFAR,
    ("paper", "cifar100"): _CIFAR,
    ("paper", "domainnet"): _DOMAINS | _VIT | dict(clients=30, participation=0.25),
    ("paper", "office_caltech10"): _DOMAINS | _VIT | dict(clients=20, participation=0.5),
    ("long", "mixed40"): _HALF_LONG | _MIXED,
    ("long", "domains"): _HALF_LONG | _DOMAINS | dict(clients=30),
    ("long", "office"): _HALF_LONG | _DOMAINS | dict(clients=20),
    ("quick", "caltech40"): dict(local_epochs=3),
    ("quick", "mixed40"): _HALF | _MIXED | dict(batch_size=16),
    ("quick", "domains"): _HALF | _DOMAINS | dict(clients=30),
    ("quick", "office"): _HALF | _DOMAINS | dict(clients=20),
    ("smoke", "folders"): dict(test_images=None),  # your own pictures: all that a client has
    ("smoke", "mixed40"): dict(partition="dirichlet", alpha=0.5, clients=4),
    ("smoke", "domains"): _DOMAINS | dict(clients=12, shots=12),
    ("smoke", "office"): _DOMAINS | dict(clients=8, shots=12),
    # Ten digits cannot be dealt to ten clients without one-class clients, which would be nearly free accuracy.
    **{(profile, "digits"): dict(clients=5) for profile in ("long", "quick", "smoke")},
}
# Digits in place of CIFAR-10, dealt as CIFAR-10 is.
DIGITS_BY_DIRICHLET: dict[str, dict[str, Any]] = {
    "long": _HALF_LONG | _MIXED | dict(batch_size=32),
    "quick": _HALF | _MIXED | dict(batch_size=32),
    "smoke": dict(partition="dirichlet", alpha=0.5, shots=8, clients=4),
    "paper": {},
}
COOP_EPOCHS = {"full": 25, "one_round": 5}  # in the paper, and in the released code


def from_profile(
    dataset: str, method: Method, profile: str = "quick", base: Mapping[str, Any] = {}, **overrides: Any
) -> Experiment:
    """The profile's experiment for a data set and a method.

    CoOp trains alone: for 25 epochs in `paper`; in the other profiles for as many as a federated client is expected to,
    since the order of the methods depends on the budget. A `Classifier` that a client fits for itself has one round, as
    it would be the same after every other.

    Args:
        base: settings of `Experiment` that a table has for the data set in place of the profile's; of your own pictures
            `suggested_settings`.
        overrides: settings that replace all of these. Rounds among them are everyone's, as they are.

    Raises:
        UserError: unknown profile or setting.
    """
    refuse_unknown([profile], list(PROFILES), "profile")
    refuse_unknown([*base, *overrides], [field.name for field in fields(Experiment)], "setting")
    settings = SETTINGS[profile] | DATASET_SETTINGS.get((profile, dataset.removesuffix("-validation")), {})
    settings |= {"dataset": dataset, "method": method} | base | overrides
    if isinstance(method, CoOp) and "rounds" not in overrides:
        settings["rounds"] = _coop_rounds(Experiment(**settings), profile)
    if profile == "paper" and "views" not in settings:
        settings["views"] = _fresh_views(Experiment(**settings))
    if isinstance(method, Classifier) and "rounds" not in overrides:
        settings["rounds"] = 1
    return Experiment(**settings)


def _coop_rounds(base: Experiment, profile: str) -> int:
    """CoOp's "rounds", after each of which it is tested."""
    if profile == "paper":
        return max(1, COOP_EPOCHS[base.protocol.coop_epochs] // base.local_epochs)
    return 1 if base.protocol.coop_epochs == "one_round" else max(1, round(base.rounds * base.participation))


def _fresh_views(base: Experiment) -> int:
    """Training views that give every epoch of a client a new one, unless it takes part twice as often as expected."""
    share = 1.0 if base.method.everyone else min(1.0, 2 * base.participation)
    return max(1, round(share * base.rounds)) * base.local_epochs


def parse_settings(text: str) -> dict[str, Any]:
    """Settings of an experiment from "rounds=2, weights='w.pt'", as the notebooks take them; "" gives none.

    Raises:
        UserError: it is no such list, or names an unknown setting.
    """
    try:
        call = ast.parse(f"settings({text})", mode="eval").body
        settings = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        well_formed = not call.args and None not in settings
    except (SyntaxError, ValueError):
        well_formed = False
    if not well_formed:
        raise UserError(f"settings must read like \"rounds=2, local_epochs=1\", not {text!r}.")
    refuse_unknown(settings, [field.name for field in fields(Experiment)], "setting")
    return settings


def selection(seeds: str = "", methods: str = "", settings: str = "", weights: str = "") -> dict[str, Any]:
    """The arguments of a grid from the parameters of its notebook, which are plain text; empty ones are the profile's.

    Args:
        seeds, methods: separated by commas.
        settings: see `parse_settings`.
        weights: pretrained tag or file.

    Raises:
        UserError: seeds that are no whole numbers, or settings that cannot be read.
    """
    try:
        numbers = [int(seed) for seed in seeds.split(",")] if seeds else None
    except ValueError as error:
        raise UserError(f"seeds must read like \"1,2,3\", not {seeds!r}.") from error
    names = [name.strip() for name in methods.split(",")] if methods else None
    chosen = parse_settings(settings) | ({"weights": weights} if weights else {})
    return {"seeds": numbers, "methods": names} | chosen
