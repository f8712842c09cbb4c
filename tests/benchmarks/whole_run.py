"""Whole runs of pFedMoAP: ten clients, from the first round to the last test, on random features.

102 classes dealt to the clients, 10 test images per class, 16 context tokens. By default the embedded CLIP runs the
paper's 10 rounds of 5 epochs at 16 shots, and RN50 and ViT-B/16 (random weights) 2 rounds of 1 epoch at 2 shots; with
--full all have the paper's. `run_over_steps` is the run's processor time divided by that of its steps if one client's
step is measured alone: what evaluation, the pool's encoding and everything else add. `plain_steps_s` is no measured
run: it is one measured step of the plain implementation (`plain.py`) times the steps of the run.

    python tests/benchmarks/whole_run.py [--full] [--models embedded_clip,RN50-quickgelu,ViT-B-16-quickgelu]
"""

import torch
from measuring import Took, arguments_of, median, precisions, report, timed, write_rows
from plain import PlainStep
from workload import BATCH, Step, make_context, random_clip, random_federation

from pfedmoap.client import Recipe, count_steps
from pfedmoap.federation import Federation, Plan
from pfedmoap.methods import PFedMoAP

MODELS = ("embedded_clip", "RN50-quickgelu", "ViT-B-16-quickgelu")
FULL, SHORT = {"rounds": 10, "epochs": 5, "shots": 16}, {"rounds": 2, "epochs": 1, "shots": 2}


def one_plain_step(model: str, classes: int, device: str) -> Took:
    clip = random_clip(model, device=device)
    pixels = torch.randn(1, BATCH, 3, clip.image_size, clip.image_size).to(device)
    plain = PlainStep(clip, Step(clip, classes), pixels)
    return timed(plain)


def measure(
    model: str, precision: str, device: str, budget: dict, classes: int, clients: int, repeats: int, plain: Took
) -> dict:
    clip = random_clip(model, precision, device)
    step = Step(clip, classes)
    step()
    alone = median([timed(step) for _ in range(repeats)])
    recipe = Recipe(budget["epochs"], batch_size=BATCH, lr=0.002, momentum=0.9, weight_decay=5e-4)
    data, context = random_federation(clip, classes, clients, budget["shots"]), make_context(clip, classes)
    federation = Federation(PFedMoAP(), Plan(budget["rounds"], 1.0, recipe), data, context)
    took = timed(lambda: list(federation.rounds()))
    steps = budget["rounds"] * sum(count_steps(len(own), recipe) for own in data.train_rows)
    phases = {f"{phase}_s": sum(entry.seconds[phase] for entry in federation.history)
              for phase in ("train", "evaluate")}
    return {"model": model, "precision": precision, "classes": classes, "clients": clients, **budget, "steps": steps,
            "run_s": took.wall, **phases, "run_cpu_s": took.processor, "step_cpu_s": alone.processor,
            "run_over_steps": took.processor / (steps * alone.processor),
            "plain_steps_s": steps * plain.wall, "plain_steps_cpu_s": steps * plain.processor,
            "cpu_speedup": steps * plain.processor / took.processor}


def main(argv: list[str] | None = None) -> None:
    parser = arguments_of(__doc__, device="cpu")
    parser.add_argument("--models", type=lambda text: text.split(","), default=",".join(MODELS), help="CLIPs")
    parser.add_argument("--full", action="store_true", help="the paper's rounds, epochs and shots for all models")
    parser.add_argument("--precisions", type=lambda text: text.split(","), help="of frozen towers")
    parser.add_argument("--classes", type=int, default=102, help="C")
    parser.add_argument("--clients", type=int, default=10, help="N, all of whom train in every round")
    for name in FULL:
        parser.add_argument(f"--{name}", type=int, help="in place of those above")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    rows, names = [], precisions(arguments.precisions, arguments.device)
    for model in arguments.models:
        budget = dict(FULL if arguments.full or model == MODELS[0] else SHORT)
        budget |= {name: value for name in FULL if (value := getattr(arguments, name))}
        plain = one_plain_step(model, arguments.classes, arguments.device)
        for precision in names:
            rows.append(measure(
                model, precision, arguments.device, budget, arguments.classes, arguments.clients, arguments.repeats,
                plain))
            write_rows(rows, arguments.out, "whole_run")  # an interrupted run has what it finished
    report(rows, arguments.out, "whole_run")


if __name__ == "__main__":
    main()
