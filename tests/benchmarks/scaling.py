"""What a run costs against C, K, the clients of a cohort, views and shots, with slopes (`scale.py`: against the pool).

A slope is that of log processor seconds over the log of the quantity, fitted through all its values: 1 is
proportional, 0 is free. Measured are, at random weights: one training step of RN50's text tower against the classes C,
the non-local experts K and the clients that train together (at 26 classes); on the embedded CLIP, image features of an
embedded set against the views, and a round of ten clients against the shots.

    python tests/benchmarks/scaling.py [--model RN50-quickgelu] [--points 4] [--repeats 3]
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

import numpy as np
import torch
from measuring import Took, arguments_of, median, report, timed
from workload import Step, make_context, random_clip, random_federation

from pfedmoap.client import Recipe
from pfedmoap.data import image_features
from pfedmoap.experiments import load_dataset
from pfedmoap.federation import Federation, Plan
from pfedmoap.methods import PFedMoAP

VALUES = {
    "classes C": (13, 26, 51, 102), "experts K": (1, 3, 9, 27), "clients in a cohort": (1, 2, 4, 8),
    "views V": (1, 2, 4, 8), "shots": (2, 4, 8, 16),
}  # fmt: skip
SMALL = "embedded_clip"
VIEWED_IMAGES = 32


def workload(quantity: str, value: int, model: str, folder: str) -> Callable[[], object]:
    """What is timed at one value of a quantity, made ready."""
    match quantity:
        case "classes C":
            return Step(random_clip(model), value)
        case "experts K":
            return Step(random_clip(model), 102, experts=value)
        case "clients in a cohort":
            return Step(random_clip(model), 26, clients=value)
        case "views V":
            imageset = replace(load_dataset("nature"), augment=True)  # it has none, which a photograph's views have
            clip, fresh = random_clip(SMALL), count()
            return lambda: image_features(
                clip, imageset, "train", value, cache_dir=f"{folder}/{value}-{next(fresh)}", progress=False,
                indices=np.arange(VIEWED_IMAGES))
        case _:
            clip = random_clip(SMALL)
            recipe = Recipe(epochs=1, batch_size=16, lr=0.002, momentum=0.9, weight_decay=5e-4)
            data, context = random_federation(clip, 40, 10, value), make_context(clip, 40)
            return lambda: Federation(PFedMoAP(), Plan(1, 1.0, recipe), data, context).run_round()


def slope(values: tuple[int, ...], seconds: list[Took]) -> float:
    return float(np.polyfit(np.log(values), np.log([took.processor for took in seconds]), 1)[0])


def measure(quantity: str, values: tuple[int, ...], model: str, repeats: int) -> Iterator[dict]:
    """One row per value."""
    with tempfile.TemporaryDirectory() as folder:
        actions = [workload(quantity, value, model, folder) for value in values]
        for action in actions:
            action()
        runs = [[timed(action) for action in actions] for _ in range(repeats)]
    seconds = [median(own) for own in zip(*runs, strict=True)]
    for value, took in zip(values, seconds, strict=True):
        yield {"quantity": quantity, "value": value, "seconds": took.wall, "cpu_seconds": took.processor,
               "slope": slope(values, seconds)}


def main(argv: list[str] | None = None) -> None:
    parser = arguments_of(__doc__)
    parser.add_argument("--model", default="RN50-quickgelu", help="open_clip's name of the CLIP")
    parser.add_argument("--points", type=int, default=4, help="of every quantity, the smallest first")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    report([row for quantity, values in VALUES.items()
            for row in measure(quantity, values[: arguments.points], arguments.model, arguments.repeats)],
           arguments.out, "scaling")


if __name__ == "__main__":
    main()
