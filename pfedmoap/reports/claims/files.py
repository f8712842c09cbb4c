"""Claims about numbers in files: cells of a table, benchmarks, tests, and that all files say the same."""

import subprocess
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from pfedmoap.errors import UserError, refuse_unknown
from pfedmoap.reports.claims.agreement import DIFFERENT, against
from pfedmoap.reports.claims.evidence import Evidence, NotRun
from pfedmoap.reports.claims.findings import Finding
from pfedmoap.system import ROOT

PRINTED = 0.005  # tables are printed with two decimals


def cells(
    evidence: Evidence, grid: str, what: str, at_least: float = -np.inf, at_most: float = np.inf,
    rows: Sequence[str] = (),
) -> Finding:  # fmt: skip
    """A number of a table's CSV file is within bounds in every cell that has it."""
    evidence.grid(grid)
    table = evidence.cells(grid)
    refuse_unknown([what], list(table), f"column of {grid}.csv")
    chosen = table[table["method"].isin(rows)] if rows else table
    values = chosen[what].dropna()
    if values.empty:
        raise UserError(f"No cell of {grid}.csv has {what} in the rows {', '.join(rows)}.")
    holds = bool(values.between(at_least, at_most).all())
    worst = values.min() if values.min() < at_least else values.max() if values.max() > at_most else values.mean()
    words = f"{what.replace('_', ' ')} from {values.min():.4g} to {values.max():.4g} in {len(values)} cells"
    return Finding(holds, words, float(worst), unit="")


def benchmark(
    evidence: Evidence, file: str, value: str, where: Mapping[str, str | float] | None = None,
    at_least: float = -np.inf, at_most: float = np.inf, unit: str = "times",
) -> Finding:  # fmt: skip
    """A number of a committed benchmark is within bounds in every line that is meant."""
    table = evidence.benchmark(file)
    refuse_unknown([value, *(where or {})], list(table), f"column of {file}.csv")
    for name, wanted in (where or {}).items():
        table = table[table[name] == wanted]
    values = table[value].dropna()
    if values.empty:
        raise UserError(f"No line of results/benchmarks/{file}.csv has {where}.")
    holds = bool(values.between(at_least, at_most).all())
    machines = table[["cpu", "cores"]].drop_duplicates().to_numpy()
    machine = ", ".join(f"{cores} cores of {cpu}" for cpu, cores in machines)
    words = f"{value.replace('_', ' ')} {values.min():.3g} to {values.max():.3g} in {len(values)} lines, on {machine}"
    return Finding(holds, words, float(values.median()), unit=unit)


def test(evidence: Evidence, nodes: Sequence[str]) -> Finding:
    """Tests of this project pass; they are run with `--run` only."""
    if not evidence.tests:
        raise NotRun(f"its tests are run with --run, or by python -m pytest {' '.join(nodes)}")
    if not (ROOT / "tests").is_dir():
        raise NotRun("its tests are in a clone of the project, and not in the installed package")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *nodes]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    last = (done.stdout.strip().splitlines() or [done.stderr.strip()])[-1]
    return Finding(done.returncode == 0, f"{' '.join(nodes)}: {last}", unit="")


def agrees(evidence: Evidence, grids: Sequence[str]) -> Finding:
    """Every printed cell is the mean and the spread of its clients' numbers, in the CSV file and in the table."""
    wrong, count = [], 0
    for grid in grids:
        evidence.grid(grid)
        table = evidence.cells(grid).set_index(["method", "column"])
        committed, recorded = evidence.committed_clients(grid), evidence.clients(grid)
        for source in [committed] if recorded is committed else [committed, recorded]:
            seeds = source.groupby(["row", "column", "seed"], sort=False)["accuracy"].mean().groupby(["row", "column"])
            for cell, mean, std in zip(seeds.groups, seeds.mean(), seeds.std(ddof=0), strict=True):
                count += 1
                line = table.loc[cell]
                if abs(line["mean"] - mean) > 1e-3 or abs(line["std"] - std) > 1e-3:
                    wrong.append(f"{grid} {' / '.join(cell)}: {line['mean']:.2f} for {mean:.2f}")
        wrong += _misprinted(evidence, grid)
    words = f"{count} cells of {len(grids)} tables" + (f"; wrong: {'; '.join(wrong[:5])}" if wrong else " agree")
    return Finding(not wrong, words, float(len(wrong)), unit="wrong")


def _misprinted(evidence: Evidence, grid: str) -> list[str]:
    """Cells of the JSON file's first block, which the page shows, that are not those of the CSV file."""
    block = evidence.facts(grid)["table"]["blocks"][0]
    table, headings = evidence.cells(grid).set_index(["method", "column"]), evidence.grid(grid).headings()
    titles = [column.title for column in evidence.grid(grid).columns]
    wrong = []
    for row, cells_of_row in zip(block["rows"], block["cells"], strict=True):
        for title, heading, text in zip(titles, headings, cells_of_row, strict=True):
            if (row, title) in table.index and text != "–":
                mean = float(text.split(" ")[0])
                if abs(mean - table.at[(row, title), "mean"]) > PRINTED + 1e-4:
                    wrong.append(f"{grid} {row} / {heading}: printed {mean:.2f}")
    return wrong


def same(evidence: Evidence, grids: Sequence[str] = ()) -> Finding:
    """A rerun gives the committed tables, but for rounding (`agreement`); judged with `--against`."""
    if evidence.rerun is None:
        again = f"pfedmoap reproduce --profile {evidence.profile} --results DIR"
        raise NotRun(f"needs a rerun, given with --against DIR: {again}")
    found = against(evidence.results, evidence.rerun, grids)
    if found.empty:
        raise NotRun(f"{evidence.rerun} has no table of those here")
    counts = found["state"].value_counts()
    words = f"{len(found)} cells: " + ", ".join(f"{count} {state}" for state, count in counts.items())
    off = found["difference"].abs()
    words += f"; at most {off.max():.2f} points apart"
    return Finding(bool((found["state"] != DIFFERENT).all()), words, float(off.max()))
