"""Whether this GPU computes what a CPU computes, and how fast: stage by stage, the most valuable first.

`make gpu-check`. Every stage runs in a process of its own and within its own limit, a share of the minutes that are
left. After each, its JSON file, figures.csv and summary.md in the folder --out are up to date; a stage that fails or
takes too long stops no other. The exit code is 1 if one that checks for correctness failed. `wheels.py` fetches what
is needed beside PyTorch.

    python tests/gpu/check.py [--out build/gpu-check] [--minutes 8] [--device cuda | --pretend]
"""

import argparse
import csv
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DONE, FAILED, TIMED_OUT = "done", "failed", "timed out"
COLUMNS = ("stage", "what", "value", "unit", "bound", "fine", "note")

Record = dict[str, Any]


class Stage(NamedTuple):
    """A function of a module that takes the device and whether it is pretended, and yields figures (`stages.Figure`).

    Attributes:
        share: of the minutes that are left when it starts, at most.
        correctness: whether the check fails with it.
    """

    module: str
    name: str
    title: str
    share: float
    correctness: bool = False


STAGES = (
    Stage("correctness", "here", "What is there", 0.3, True),
    Stage("correctness", "parts", "Prompts, gate, step, local update and graphs against the CPU in fp32", 0.3, True),
    Stage("correctness", "methods", "Two rounds of every method, and seeds as one batch, against the CPU", 0.4, True),
    Stage("correctness", "device_tests", "tests/test_device.py", 0.4, True),
    Stage("speed", "step", "A training step", 0.5),
    Stage("speed", "whole_run", "A whole run at Flowers102's shape", 0.5),
    Stage("speed", "cifar_run", "Runs of CIFAR-10's shape", 0.5),
    Stage("speed", "image_features", "Image features", 0.5),
    Stage("speed", "projection", "All runs of the profile `paper`, an estimate", 1.0),
)


def run(stages: Sequence[Stage], folder: Path, seconds: float, device: str, pretend: bool) -> list[Record]:
    """Runs the stages one after the other; every record is written before the next begins."""
    folder.mkdir(parents=True, exist_ok=True)
    records, ends = [], time.monotonic() + seconds
    for stage in stages:
        records.append(_one(stage, folder, stage.share * max(ends - time.monotonic(), 0), device, pretend))
        _write(folder / f"{stage.name}.json", json.dumps(records[-1], indent=1))
        write_figures(folder / "figures.csv", records)
        _write(folder / "summary.md", summary(stages, records))
        say(f"{stage.name}: {records[-1]['status']} in {records[-1]['seconds']:.0f} s")
    return records


def _one(stage: Stage, folder: Path, limit: float, device: str, pretend: bool) -> Record:
    """A stage in its own process group, which ends with it; what it had found counts however it ends."""
    path, log, started = folder / f"{stage.name}.json", folder / f"{stage.name}.log", time.monotonic()
    path.unlink(missing_ok=True)
    process = multiprocessing.get_context("forkserver").Process(target=work, args=(stage, path, log, device, pretend))
    process.start()
    process.join(limit)
    late = process.is_alive()
    if late:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
    found = json.loads(path.read_text()) if path.exists() else {"figures": [], "imports": []}
    status = TIMED_OUT if late else DONE if process.exitcode == 0 else FAILED
    tail = log.read_text().strip().splitlines()[-1:] if log.exists() else []
    why = {DONE: "", TIMED_OUT: f"after {limit:.0f} s", FAILED: "".join(tail) or f"exit code {process.exitcode}"}
    return {"stage": stage.name, "status": status, "why": why[status], "seconds": time.monotonic() - started, **found}


def work(stage: Stage, path: Path, log: Path, device: str, pretend: bool) -> None:
    """In the stage's process: what it prints goes to the log, every figure to the JSON file."""
    os.setsid()
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    figures: list[dict] = []
    try:
        for figure in getattr(import_module(stage.module), stage.name)(device, pretend):
            figures.append(figure._asdict())
            _write(path, json.dumps({"figures": figures, "imports": imported()}))
    except BaseException:
        traceback.print_exc()
        raise SystemExit(1) from None


def imported() -> list[str]:
    """Every package that this process has loaded from where packages are installed."""
    files = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.copy().items()}
    return sorted({name.partition(".")[0] for name, file in files.items()
                   if "site-packages" in file or "dist-packages" in file})


def passed(stages: Sequence[Stage], records: Sequence[Record]) -> bool:
    """Whether every stage that checks for correctness has done so, and found nothing."""
    return all(record["status"] == DONE and all(figure["fine"] is not False for figure in record["figures"])
               for stage, record in zip(stages, records, strict=True) if stage.correctness)


def write_figures(path: Path, records: Sequence[Record]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({"stage": record["stage"], **figure} for record in records for figure in record["figures"])


def summary(stages: Sequence[Stage], records: Sequence[Record]) -> str:
    """Markdown: how the stages ended, and a table of figures for each."""
    parts = ["# GPU check", _table(("stage", "", "seconds", ""), [
        (stage.title, _verdict(record), f"{record['seconds']:.0f}", record["why"])
        for stage, record in zip(stages, records, strict=False)])]
    for stage, record in zip(stages, records, strict=False):
        rows = [(figure["what"], _value(figure), _bound(figure), figure["note"]) for figure in record["figures"]]
        parts += [f"## {stage.title}", _table(("", "", "allowed", ""), rows) if rows else "Nothing was found."]
    return "\n\n".join(parts) + "\n"


def _verdict(record: Record) -> str:
    wrong = sum(figure["fine"] is False for figure in record["figures"])
    return f"{record['status']}, {wrong} wrong" if wrong else record["status"]


def _value(figure: dict) -> str:
    value = figure["value"]
    number = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return f"{number} {figure['unit']}".strip() if number else ""


def _bound(figure: dict) -> str:
    mark = {True: "", False: " **wrong**", None: ""}[figure["fine"]]
    return ("" if figure["bound"] is None else f"{figure['bound']:.4g}") + mark


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |" for line in lines)


def _write(path: Path, text: str) -> None:
    """Whole or not at all, as the process may be killed meanwhile."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def find_modules() -> None:
    """Has this process and its descendants find the package, the stages and what they call."""
    folders = [ROOT, *(ROOT / "tests" / name for name in ("gpu", "benchmarks", "pretended"))]
    sys.path[:0] = map(str, folders)
    before = [own] if (own := os.environ.get("PYTHONPATH")) else []
    os.environ["PYTHONPATH"] = os.pathsep.join([*map(str, folders), *before])


def say(text: str) -> None:
    print(text, flush=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu-check", help="folder of what is found")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all stages together")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ...")
    parser.add_argument("--pretend", action="store_true", help="on a GPU that is none, at tiny sizes")
    arguments = parser.parse_args(argv)
    find_modules()
    multiprocessing.set_forkserver_preload(["correctness", "speed"])  # which imports what all of them need, once
    records = run(STAGES, arguments.out, 60 * arguments.minutes, arguments.device, arguments.pretend)
    say(f"{arguments.out / 'summary.md'}, figures.csv beside it")
    sys.exit(0 if passed(STAGES, records) else 1)


if __name__ == "__main__":
    main()
