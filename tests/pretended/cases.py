"""Small runs of every method, and of whatever else a device could do in its own way; for GPUs, pretended or not."""

from collections.abc import Sequence
from dataclasses import replace

from pfedmoap.experiments import Experiment, Place, from_profile, prepare
from pfedmoap.experiments.seeds import rounds_of
from pfedmoap.federation import Round
from pfedmoap.methods import CLAP, METHODS, FedOTP, PFedMoAP, TipAdapterF
from pfedmoap.released import RELEASED, released


def small(method, **settings) -> list[Experiment]:
    return [from_profile("digits", method, "smoke", **{"rounds": 2, "shots": 2} | settings)]


FEW_STEPS = {"clap": CLAP(probe_steps=3), "tip_adapter_f": TipAdapterF(key_steps=2)}  # all of them take minutes here
CASES = {name: small(FEW_STEPS.get(name) or method()) for name, method in METHODS.items()} | {
    "linear gate": small(PFedMoAP(gate="linear")),
    "random experts": small(PFedMoAP(expert_choice="random"), participation=0.5, rounds=3),
    "global expert": small(PFedMoAP(expert_choice="global")),
    "experts per client": small(PFedMoAP(experts=(0, 1, 2, 3, 4))),
    "bf16": small(PFedMoAP(), precision="bf16"),
    "privacy": small(PFedMoAP(), epsilon=50.0),
    "released code": small(PFedMoAP(), protocol=RELEASED),
    "fp16": small(PFedMoAP(), protocol=released("precision")),
    "fedotp seeds": [replace(small(FedOTP(), rounds=1)[0], seed=seed) for seed in (1, 2)],
    "seeds": [replace(small(PFedMoAP())[0], seed=seed) for seed in (1, 2, 3)],
}


def finished(runs: Sequence[Experiment], place: Place) -> list[Round]:
    """All rounds of runs that differ in nothing but their seed, which train as one batch."""
    prepared = [prepare(run, place) for run in runs]
    return [result for _, result in rounds_of([item.federation for item in prepared])]


def apart(ours: Sequence[Round], expected: Sequence[Round]) -> tuple[float, float]:
    """How far rounds are from what they should be: the largest difference of a loss, relative, and of an accuracy."""
    losses = [abs(own.losses[client] / entry.losses[client] - 1)
              for own, entry in zip(ours, expected, strict=True) for client in entry.losses]
    return max(losses, default=0), max(abs(own.accuracy - entry.accuracy)
                                       for own, entry in zip(ours, expected, strict=True))
