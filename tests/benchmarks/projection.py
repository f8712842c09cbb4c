"""How long all runs of tables 1 to 8 and figures 3 and 4 would take in the profile `paper` here: an estimate.

No run is made. Measured are, at random weights: a local update of a cohort, divided by its steps (50 on a GPU, as many
as a run of Flowers102 has, so that what a graph of them costs is in it; 1 on a CPU), the encoding of one pool prompt,
and of one image, for every backbone, number of classes and cohort that the grids have. Multiplied are: rounds x local
steps of a cohort (every run that trains as if it were pFedMoAP's; runs that differ only in their seed, as many as
`--seeds-per-batch` says, train as one cohort), rounds x prompts of all clients (tests), and views x training images
plus test images (features, once per set and seed). Runs that several grids share count once.

Numbers of images: CoOp's splits, CIFAR's; of DomainNet's ten classes 10/345 of its 586,575 images, of Office-Caltech10
its 2,533, both with 70 % for training, which is an assumption. Clients are taken to be of equal size.

    python tests/benchmarks/projection.py [--device cuda] [--precision bf16] [--seeds-per-batch 3] [--repeats 3]
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache

import torch
from measuring import arguments_of, median, report, timed
from workload import BATCH, Update, make_context, random_clip

from pfedmoap.experiments import GRIDS, Experiment, Place
from pfedmoap.experiments.runs import SEEDS_PER_BATCH, in_batches

# Classes, training images (None: shots x classes), test images.
SETS = {"flowers102": (102, None, 2463), "oxford_pets": (37, None, 3669), "food101": (101, None, 30300),
        "caltech101": (100, None, 2465), "dtd": (47, None, 1692), "cifar10": (10, 50000, 10000),
        "cifar100": (100, 50000, 10000), "domainnet": (10, 11901, 5101),
        "office_caltech10": (10, 1773, 760)}  # fmt: skip


class Costs:
    """Seconds of the parts of a run, each measured once."""

    def __init__(self, device: str, precision: str, repeats: int):
        self.device, self.precision, self.repeats = device, precision, repeats
        self.steps = 1 if device == "cpu" else 50

    @cache  # noqa: B019
    def step(self, model: str, classes: int, cohort: int) -> float:
        return self._seconds(Update(self._clip(model), classes, cohort, self.steps)) / self.steps

    @cache  # noqa: B019
    def prompt(self, model: str, classes: int) -> float:
        context = make_context(self._clip(model), classes)
        prompts = context.initial_prompt.to(self.device)[None]
        with torch.no_grad():
            return self._seconds(lambda: context.text.encoder(prompts))

    @cache  # noqa: B019
    def image(self, model: str) -> float:
        clip = self._clip(model)
        pixels = torch.randn(BATCH, 3, clip.image_size, clip.image_size).to(clip.device)
        return self._seconds(lambda: clip.encode_images(pixels)) / BATCH

    def _clip(self, model: str):
        return random_clip(model, self.precision, self.device)

    def _seconds(self, action) -> float:
        action()
        return median([timed(action) for _ in range(self.repeats)]).wall


def training_images(run: Experiment) -> int:
    classes, images, _ = SETS[run.dataset]
    return images or run.shots * classes


def local_steps(run: Experiment) -> int:
    """Of one client in one round."""
    return run.local_epochs * max(1, training_images(run) // run.clients // run.batch_size)


def trains(run: Experiment) -> bool:
    return not run.method.name.startswith("zero_shot")


def project(costs: Costs, seeds_per_batch: int = 1) -> list[dict]:
    """One row per grid, and their sum.

    Args:
        seeds_per_batch: runs with different seeds that train as one batch.
    """
    rows = list(each_grid(costs, seeds_per_batch))
    return [*rows, {"grid": "all"} | {part: sum(row[part] for row in rows) for part in list(rows[0])[1:]}]


def each_grid(costs: Costs, seeds_per_batch: int) -> Iterator[dict]:
    """A row for every grid, with the runs that no grid above it has."""
    seen, featured = set(), set()
    for name, grid in GRIDS.items():
        runs = {run.key: run for cell in grid("paper").cells.values() for run in cell}
        seconds, counts = defaultdict(float), Counter()
        new = [run for key, run in runs.items() if key not in seen]
        for batch in in_batches(filter(trains, new), seeds_per_batch, Place(device=costs.device)):
            run, steps = batch[0], batch[0].rounds * local_steps(batch[0])
            classes, cohort = SETS[run.dataset][0], max(1, round(run.participation * run.clients))
            counts["steps"] += steps
            seconds["train"] += steps * costs.step(run.model, classes, len(batch) * cohort)
            seconds["test"] += len(batch) * run.rounds * run.clients * costs.prompt(run.model, classes)
        for run in new:
            counts["runs"] += 1
            if (source := (run.dataset, run.seed, run.model)) not in featured:
                images = training_images(run) * max(run.views, 1) + SETS[run.dataset][2]
                counts["images"] += images
                seconds["features"] += images * costs.image(run.model)
                featured.add(source)
        seen |= runs.keys()
        yield {"grid": name, "runs": counts["runs"], "cohort_steps": counts["steps"], "images": counts["images"],
               **{f"{part}_h": seconds[part] / 3600 for part in ("train", "test", "features")},
               "hours": sum(seconds.values()) / 3600}


def main(argv: list[str] | None = None) -> None:
    parser = arguments_of(__doc__, device="cpu")
    parser.add_argument("--precision", default="fp32", help="of the frozen towers: fp32 or bf16")
    parser.add_argument("--seeds-per-batch", type=int, help="runs in a batch; as `run_all` has it by default")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    each = arguments.seeds_per_batch or (1 if arguments.device == "cpu" else SEEDS_PER_BATCH)
    report(project(Costs(arguments.device, arguments.precision, arguments.repeats), each), arguments.out,
           "projection")


if __name__ == "__main__":
    main()
