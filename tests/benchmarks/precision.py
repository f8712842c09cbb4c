"""What bf16 does to accuracy: pFedMoAP and PromptFL on the embedded sets, in fp32 and with the frozen towers in bf16.

Same seeds, same data, same prompts and gates. A run that is far from its end turns any small change into points: for
comparison `perturbed` is fp32 from an initial prompt of which every number is off by 1 %, at random. The largest
differences are those of single seeds.

    python tests/benchmarks/precision.py [--profile quick] [--seeds 1,2,3] [--sets patterns,digits]
"""

import argparse
import multiprocessing
import statistics
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from measuring import ROOT, report
from tqdm import tqdm

from pfedmoap.experiments import from_profile, prepare
from pfedmoap.methods import METHODS
from pfedmoap.system import cores

VARIANTS = ("fp32", "bf16", "perturbed")
PERTURBATION = 0.01


def accuracy(profile: str, dataset: str, method: str, seed: int, variant: str) -> float:
    """Mean over clients after the last round, in percent."""
    torch.set_num_threads(1)
    settings = {"precision": "bf16"} if variant == "bf16" else {}
    federation = prepare(from_profile(dataset, METHODS[method](), profile, seed=seed, **settings)).federation
    if variant == "perturbed":
        prompt = federation.server.shared["prompt"]
        noise = torch.randn(prompt.shape, generator=torch.Generator().manual_seed(seed))
        federation.server.shared["prompt"] = prompt * (1 + PERTURBATION * noise)
    return 100 * list(federation.rounds())[-1].accuracy


def farthest(some: list[float], others: list[float]) -> float:
    return max(abs(a - b) for a, b in zip(some, others, strict=True))


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
        fp32, bf16, perturbed = ([values[arguments.profile, *cell, seed, variant] for seed in seeds]
                             for variant in VARIANTS)
        rows.append({"set": cell[0], "method": cell[1], "seeds": len(seeds),
                     "fp32": statistics.mean(fp32), "spread": statistics.pstdev(fp32), "bf16": statistics.mean(bf16),
                     "difference": statistics.mean(bf16) - statistics.mean(fp32),
                     "perturbed": statistics.mean(perturbed) - statistics.mean(fp32),
                     "largest": farthest(bf16, fp32), "largest_perturbed": farthest(perturbed, fp32)})
    report(rows, arguments.out, "precision")


if __name__ == "__main__":
    main()
