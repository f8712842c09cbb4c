"""Some 700 hostile inputs, each tried once: a table of what came of them.

    make hostile

writes `results/reliability/hostile.csv`, a line per input, and prints a line per kind. It fails if anything was
executed, poisoned, hung, or ended in a traceback.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import base as bases
import data_sets
import pandas as pd
import shown
import stored
import uploads
from bench import REFUSED, Hostile, Outcome, examine
from tabulate import tabulate
from tqdm import tqdm

from pfedmoap.system.paths import ROOT

KINDS = (
    stored.records,
    stored.checkpoints,
    stored.caches,
    stored.personal_models,
    stored.weights,
    data_sets.split_files,
    data_sets.csv_files,
    data_sets.pictures,
    data_sets.archives,
    shown.pages,
    shown.tables,
    shown.parameters,
    uploads.uploads,
)


def inputs(base: bases.Base) -> Iterator[Hostile]:
    for kind in KINDS:
        yield from kind(base)


def summary(outcomes: list[Outcome]) -> pd.DataFrame:
    """A line per kind: how many were tried, refused, harmless, and at fault."""
    rows = pd.DataFrame([vars(one) for one in outcomes])
    found = pd.DataFrame({"tried": rows.groupby("kind", sort=False).size()})
    sound = rows[rows["fault"].isna()]
    for name, chosen in (
        ("refused", sound[sound["came"] == REFUSED]),
        ("harmless", sound[sound["came"] != REFUSED]),
        ("at fault", rows[rows["fault"].notna()]),
    ):
        found[name] = chosen.groupby("kind").size().reindex(found.index, fill_value=0)
    found.loc["together"] = found.sum()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "reliability")
    parser.add_argument("--only", help="kinds or names that have this in them")
    parser.add_argument("--every", type=int, default=1, help="only each so manieth")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        base = bases.make(folder / "base")
        tried = [one for one in inputs(base) if not chosen.only or chosen.only in f"{one.kind}: {one.name}"]
        tried = tried[:: chosen.every]
        outcomes = [
            examine(one, folder / str(number))
            for number, one in enumerate(tqdm(tried, desc="hostile inputs", unit="input"))
        ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    faults = [one for one in outcomes if one.fault]
    for one in faults:
        print(f"{one.kind}: {one.name}: {one.fault} ({one.said})")
    print(tabulate(summary(outcomes), headers="keys", tablefmt="pipe"))
    if not chosen.only and chosen.every == 1:
        chosen.out.mkdir(parents=True, exist_ok=True)
        frame = pd.DataFrame([vars(one) for one in outcomes])
        frame.to_csv(chosen.out / "hostile.csv", index=False, lineterminator="\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
