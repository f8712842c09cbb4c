"""A round of pFedMoAP with 10 to 10,000 clients in one process: seconds of each part, and peak memory.

The embedded CLIP and features of the embedded set `patterns`; each client draws 8 training and 4 test images of it with
replacement, as the set has too few to deal. This is the state of a long run: every client is in the pool and has a
gate of its own (d_gating 128). At most 100 clients train in the round; all are tested after it. Every number of clients
is measured in a process of its own, on one torch thread. Neighbours one by one are timed for 100 clients and scaled up.

    python tests/benchmarks/scale.py [--clients 10,100,1000,10000]
"""

import argparse
import multiprocessing
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from measuring import ROOT, write_rows

from pfedmoap.client import FederatedData
from pfedmoap.evaluation import evaluate
from pfedmoap.experiments import from_profile, prepare
from pfedmoap.federation import Federation, Plan
from pfedmoap.gating import initial_gate
from pfedmoap.methods import PFedMoAP
from pfedmoap.server import Pool

TRAINING, TRAIN_IMAGES, TEST_IMAGES, SAMPLE = 100, 8, 4, 100


def deal(bank: FederatedData, clients: int, rng: np.random.Generator) -> FederatedData:
    """Images of a small set for any number of clients."""
    train, test = len(bank.train_labels), len(bank.test_labels)
    return replace(bank, train_rows=[rng.integers(train, size=TRAIN_IMAGES) for _ in range(clients)],
                   test_rows=[rng.integers(test, size=TEST_IMAGES) for _ in range(clients)])


def long_run(clients: int) -> Federation:
    """A federation in which everyone has taken part."""
    method = PFedMoAP()
    prepared = prepare(from_profile("nature", method, "quick"))
    bank, context = prepared.federation.data, prepared.federation.context
    plan = Plan(rounds=1, participation=min(1.0, TRAINING / clients), recipe=prepared.experiment.recipe)
    run = Federation(method, plan, deal(bank, clients, np.random.default_rng(0)), context)
    draw = torch.Generator().manual_seed(0)
    for client in range(clients):
        prompt = context.initial_prompt + 0.01 * torch.randn(context.initial_prompt.shape, generator=draw)
        run.personal[client] = {"prompt": prompt, **initial_gate(method.d_gating, context.seed, client)}
    run.server.pool = Pool({client: own["prompt"] for client, own in run.personal.items()})
    return run


def measure(clients: int, results) -> None:
    torch.set_num_threads(1)
    run, seconds = long_run(clients), {}

    def timed(name, call):
        started = time.perf_counter()
        value = call()
        seconds[name] = time.perf_counter() - started
        return value

    before = memory()
    downloads = timed("download", lambda: run.downloads(run.sample(1)))
    updates = timed("train", lambda: list(run.train(downloads, 1)))
    uploads = {update.client: update.upload for update in updates}
    timed("aggregate", lambda: (run.cache(uploads), run.average(uploads)))
    tests = timed("evaluate", lambda: evaluate(run.method, run.server, run.personal, run.data, run.context))
    peak, state = memory(), sum(tensor.nbytes for tensor in run.snapshot()[0].values())
    pool, experts = Pool(run.server.pool.entries), run.method.experts
    pool.expect(range(clients))
    together = timed("KNN", lambda: [pool.nearest(client, experts) for client in range(clients)])
    plain, some = Pool(pool.entries), min(clients, SAMPLE)
    assert timed("KNN 1 by 1", lambda: [plain.nearest(client, experts) for client in range(some)]) == together[:some]
    seconds["KNN 1 by 1"] *= clients / some
    assert len(tests.accuracies) == clients
    results.put({"clients": clients, "training": len(updates)} | {f"{name} s": value for name, value in seconds.items()}
                | {"state MiB": state / 2**20, "before MiB": before, "peak MiB": peak})


def memory() -> float:
    """Peak resident memory so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--clients", default="10,100,1000,10000", help="N, with commas between")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks", help="folder of the CSV file")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)  # as in the processes that measure
    processes, rows = multiprocessing.get_context("spawn"), []
    for clients in map(int, arguments.clients.split(",")):
        results = processes.Queue()
        process = processes.Process(target=measure, args=(clients, results))
        process.start()
        rows.append(results.get())
        process.join()
        if len(rows) == 1:
            print("  ".join(f"{name:>12}" for name in rows[0]))
        print("  ".join(f"{value:12.3f}" if name.endswith(" s") else f"{value:12.0f}"
                        for name, value in rows[-1].items()), flush=True)
        write_rows(rows, arguments.out, "scale")  # an interrupted run has what it finished


if __name__ == "__main__":
    main()
