"""What bf16 does to accuracy: pFedMoAP and PromptFL on the embedded sets, in fp32 and with the frozen towers in bf16.

Same seeds, same data, same prompts and gates. Runs that are unstable turn any difference of rounding into points, which
is not bf16's doing: `other rounding` is fp32 again, its clients trained one by one instead of as one batch.

    python tests/benchmarks/precision.py [--profile quick] [--seeds 1,2,3] [--sets patterns,digits]
"""

import argparse
import multiprocessing
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from measuring import ROOT, report
from tqdm import tqdm

from pfedmoap import cores
from pfedmoap.methods import METHODS
from pfedmoap.paper import experiment
from pfedmoap.preparation import prepare

VARIANTS = {"fp32": {}, "bf16": {"precision": "bf16"}, "other rounding": {"cohort_bytes": 1}}


def accuracy(profile: str, dataset: str, method: str, seed: int, variant: str) -> float:
    """Mean over clients after the last round, in percent."""
    torch.set_num_threads(1)
    settings = dict(VARIANTS[variant])
    cohort = {name: settings.pop(name) for name in ("cohort_bytes",) if name in settings}
    federation = prepare(experiment(dataset, METHODS[method](), profile, seed=seed, **settings)).federation
    federation.plan = replace(federation.plan, **cohort)
    return 100 * list(federation.rounds())[-1].accuracy


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--seeds", default="1,2,3", help="with commas between")
    parser.add_argument("--sets", default="patterns,attr3,colorshape,texshape,digits", help="with commas between")
    parser.add_argument("--methods", default="pfedmoap,promptfl", help="with commas between")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks", help="folder of the CSV file")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    cells = [(dataset, method) for dataset in arguments.sets.split(",") for method in arguments.methods.split(",")]
    tasks = [(arguments.profile, *cell, seed, variant) for cell in cells for seed in seeds for variant in VARIANTS]
    with ProcessPoolExecutor(cores.count(), multiprocessing.get_context("spawn")) as pool:
        values = dict(zip(tasks, tqdm(pool.map(accuracy, *zip(*tasks, strict=True)), total=len(tasks)), strict=True))
    rows = []
    for cell in cells:
        fp32, bf16, other = ([values[arguments.profile, *cell, seed, variant] for seed in seeds]
                             for variant in VARIANTS)
        rows.append({"set": cell[0], "method": cell[1], "seeds": len(seeds),
                     "fp32": statistics.mean(fp32), "spread": statistics.pstdev(fp32), "bf16": statistics.mean(bf16),
                     "difference": statistics.mean(bf16) - statistics.mean(fp32),
                     "other_rounding": statistics.mean(other) - statistics.mean(fp32),
                     "largest": max(abs(a - b) for a, b in zip(bf16, fp32, strict=True)),
                     "largest_other": max(abs(a - b) for a, b in zip(other, fp32, strict=True))})
    report(rows, arguments.out, "precision")


if __name__ == "__main__":
    main()
