"""Peak memory of a training step, and of a run whose cohort of ten is cut to the memory budget, each in a new process.

RN50's text tower at random weights, 102 classes, batch 16, 9 experts. A plain step (`plain.py`) has one client; the run
is two rounds, the second with gates, whose cohorts `Federation` chunks to `Plan.cohort_bytes` (2 GiB).

    python tests/benchmarks/memory.py [--classes 102] [--clients 10]
"""

import multiprocessing
import resource

import torch
from measuring import arguments_of, precisions, report
from plain import PlainStep
from workload import BATCH, Step, make_context, random_clip, random_federation

from pfedmoap.client import Recipe
from pfedmoap.federation import Federation, Plan
from pfedmoap.methods import PFedMoAP


def prepared(work: str, model: str, precision: str, classes: int, clients: int):
    """What is measured, ready to be called."""
    clip = random_clip(model, precision)
    if work == "run":
        data = random_federation(clip, classes, clients, shots=2)
        recipe = Recipe(epochs=1, batch_size=BATCH, lr=0.002, momentum=0.9, weight_decay=5e-4)
        federation = Federation(PFedMoAP(), Plan(2, 1.0, recipe), data, make_context(clip, classes))
        return lambda: list(federation.rounds())
    step = Step(clip, classes, clients)
    if work == "plain step":
        return PlainStep(clip, step, torch.randn(clients, BATCH, 3, clip.image_size, clip.image_size))
    return step


def measure(results, threads: int, work: str, *settings) -> None:
    torch.set_num_threads(threads)
    action = prepared(work, *settings)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    action()
    results.put((before / 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def main(argv: list[str] | None = None) -> None:
    parser = arguments_of(__doc__)
    parser.add_argument("--model", default="RN50-quickgelu", help="open_clip's name of the CLIP")
    parser.add_argument("--classes", type=int, default=102, help="C")
    parser.add_argument("--clients", type=int, default=10, help="of a cohort")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)  # of this process, which measures nothing: it describes the machine
    spawn, rows, cohort = multiprocessing.get_context("spawn"), [], arguments.clients
    kinds = [("step", precision, clients) for precision in precisions(None, "cpu") for clients in (1, cohort)]
    for work, precision, clients in [("plain step", "fp32", 1), *kinds, ("run", "fp32", cohort)]:
        results = spawn.Queue()
        settings = work, arguments.model, precision, arguments.classes, clients
        process = spawn.Process(target=measure, args=(results, arguments.threads, *settings))
        process.start()
        before, peak = results.get()
        process.join()
        rows.append({"work": work, "model": arguments.model, "precision": precision, "classes": arguments.classes,
                     "clients": clients, "peak_mib": round(peak), "of_which_work_mib": round(peak - before)})
    report(rows, arguments.out, "memory")


if __name__ == "__main__":
    main()
