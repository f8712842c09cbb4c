"""Clocks, tables and files of the benchmarks."""

import argparse
import csv
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pfedmoap.experiments import instruction_set, refuse_too_slow, too_slow
from pfedmoap.system import cores

ROOT = Path(__file__).parents[2]


class Took(NamedTuple):
    """Seconds of one call; what else runs on the machine disturbs the wall clock more than the processor's."""

    wall: float
    processor: float


def arguments_of(description: str, **defaults: Any) -> argparse.ArgumentParser:
    """A benchmark's command line, with what all have in common."""
    parser = argparse.ArgumentParser(
        description=description.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--repeats", type=int, default=defaults.get("repeats", 3), help="of every measurement")
    parser.add_argument("--threads", type=int, default=defaults.get("threads", cores.count()), help="of torch")
    if "device" in defaults:
        parser.add_argument("--device", default=defaults["device"], help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks", help="folder of the CSV file")
    return parser


def precisions(asked: Sequence[str] | None, device: str) -> list[str]:
    """Those asked for; by default fp32, and bf16 where the device is any good at it."""
    if asked is not None:
        for precision in asked:
            refuse_too_slow(precision, device)
        return list(asked)
    if why := too_slow("bf16", device):
        print(f"{why}: it is left out")
    return ["fp32"] if why else ["fp32", "bf16"]


def timed(action: Callable[[], Any]) -> Took:
    wait_for_gpu()
    wall, processor = time.perf_counter(), time.process_time()
    action()
    wait_for_gpu()
    return Took(time.perf_counter() - wall, time.process_time() - processor)


def wait_for_gpu() -> None:
    """Until it has done what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def peak_mib(action: Callable[[], Any]) -> float:
    """The most of a GPU's memory that is taken while it does something (of main memory `memory.py` measures it)."""
    torch.cuda.reset_peak_memory_stats()
    action()
    return torch.cuda.max_memory_allocated() / 2**20


def side_by_side(actions: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[Took]]:
    """Times the actions in turns, so that what else runs on the machine disturbs all alike; call them once before."""
    seconds = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            seconds[name].append(timed(action))
    return seconds


def median(seconds: Sequence[Took]) -> Took:
    return Took(*(statistics.median(values) for values in zip(*seconds, strict=True)))


def machine() -> dict[str, Any]:
    """What the figures depend on; no name that a person gave the machine."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = models[0] if models else cpu
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_initialized() else {}
    return gpu | {"cpu": cpu, "instructions": instruction_set(), "cores": cores.count(),
            "threads": torch.get_num_threads(), "torch": torch.__version__, "load": round(os.getloadavg()[0], 1),
            "date": date.today().isoformat()}


def report(rows: Sequence[Mapping[str, Any]], folder: Path, name: str) -> None:
    """Prints the rows as a table and writes them to <folder>/<name>.csv."""
    texts = [list(rows[0])] + [[_text(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for line in texts:
        print("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    write_rows(rows, folder, name)


def write_rows(rows: Sequence[Mapping[str, Any]], folder: Path, name: str) -> None:
    """Writes the rows, each with the machine, to <folder>/<name>.csv."""
    here = machine()
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *here], lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _text(value) for key, value in row.items()} | here for row in rows)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
