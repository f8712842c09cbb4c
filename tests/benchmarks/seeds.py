"""Runs of pFedMoAP that differ only in their seed: one after the other, and as one batch, in turns.

What is timed are the rounds, from the first to the last test, on random features: clients, classes and images as few as
in CIFAR-10's runs (ten classes, ten clients at a time), where a GPU has little to do in a step. All clients have as
many images; where they have not, as in CIFAR's own partition, a batch of runs saves less.

    python tests/benchmarks/seeds.py [--device cuda] [--precision bf16] [--model embedded_clip] [--runs 3]
"""

from dataclasses import replace

import torch
from measuring import arguments_of, median, report, side_by_side
from workload import BATCH, make_context, random_clip, random_federation

from pfedmoap.client import Recipe
from pfedmoap.experiments.seeds import rounds_of
from pfedmoap.federation import Federation, Plan
from pfedmoap.methods import PFedMoAP
from pfedmoap.prompts import initial_prompt


def federations(model: str, precision: str, device: str, runs: int, classes: int, clients: int, shots: int) -> list:
    """One per seed; all on images of their own."""
    clip = random_clip(model, precision, device)
    recipe = Recipe(epochs=2, batch_size=BATCH, lr=0.002, momentum=0.9, weight_decay=5e-4)
    context, made = make_context(clip, classes), []
    for seed in range(1, runs + 1):
        own = replace(context, seed=seed, initial_prompt=initial_prompt(16, clip.token_width, seed))
        data = random_federation(clip, classes, clients, shots, seed=seed)
        made.append(Federation(PFedMoAP(), Plan(2, 1.0, recipe), data, own))
    return made


def measure(
    model: str, precision: str, device: str, runs: int, classes: int, clients: int, shots: int, repeats: int
) -> dict:
    settings = model, precision, device, runs, classes, clients, shots
    fresh = {name: [federations(*settings) for _ in range(1 + repeats)] for name in ("in turn", "as one")}
    actions = {"in turn": lambda: [list(one.rounds()) for one in fresh["in turn"].pop()],
               "as one": lambda: list(rounds_of(fresh["as one"].pop()))}  # fmt: skip
    for warm_up in actions.values():
        warm_up()
    took = {name: median(times) for name, times in side_by_side(actions, repeats).items()}
    return {"model": model, "precision": precision, "runs": runs, "classes": classes, "clients": clients,
            "shots": shots, "in_turn_s": took["in turn"].wall, "as_one_s": took["as one"].wall,
            "times_faster": took["in turn"].wall / took["as one"].wall}


def main(argv: list[str] | None = None) -> None:
    parser = arguments_of(__doc__, device="cpu", threads=1)
    parser.add_argument("--model", default="embedded_clip", help="CLIP")
    parser.add_argument("--precision", default="fp32", help="of the frozen towers: fp32 or bf16")
    parser.add_argument("--runs", type=int, default=3, help="seeds")
    parser.add_argument("--classes", type=int, default=10, help="C")
    parser.add_argument("--clients", type=int, default=10, help="N, all of whom train in every round")
    parser.add_argument("--shots", type=int, default=160, help="training images per class")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    row = measure(arguments.model, arguments.precision, arguments.device, arguments.runs, arguments.classes,
                  arguments.clients, arguments.shots, arguments.repeats)
    report([row], arguments.out, "seeds")


if __name__ == "__main__":
    main()
