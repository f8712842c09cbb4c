"""What `make mutants` found: a table by module, and each survivor with the reason in survivors.csv.

    python tests/mutants/report.py [--write]

Fails if more than 5 % survive, or if a survivor has no reason. A mutant is named by its function and what it changes,
as mutmut's numbers move with every edit.
"""

import argparse
import csv
import json
import sys
from collections import Counter
from pathlib import Path

from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from tabulate import tabulate

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("survivors.csv")
COLUMNS = "function", "line", "mutant", "reason"
MOST = 0.05


def results() -> dict[str, dict[str, str]]:
    """Module -> its mutants -> killed, survived, timeout, ..."""
    files = sorted((ROOT / "mutants").rglob("*.py.meta"))
    codes = {str(file.relative_to(ROOT / "mutants"))[: -len(".meta")]: json.loads(file.read_text())["exit_code_by_key"]
             for file in files}
    return {path: {name: status_by_exit_code[code] for name, code in mutants.items()}
            for path, mutants in codes.items() if mutants}


def described(path: str, name: str) -> tuple[str, str, str]:
    """A mutant's function, the lines that it changes, and what they become."""
    function = name.partition("__mutmut_")[0].removeprefix("pfedmoap.")
    function = function.replace(".x_", ".").replace(".xǁ", ".").replace("ǁ", ".")
    changed = [line for line in get_diff_for_mutant(name, path=path).splitlines()[2:] if line[:1] in ("-", "+")]
    before, after = (" ".join(line[1:].strip() for line in changed if line[0] == sign) for sign in "-+")
    return function, before, after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write survivors.csv anew; reasons that still fit stay")
    write = parser.parse_args().write
    found = results()
    rows = list(csv.reader(LIST.open())) if LIST.exists() else []
    reasons = {tuple(row[:3]): row[3] for row in rows if row[0] != "function"}
    alive = [(path, name, status) for path, mutants in found.items() for name, status in mutants.items()
             if status not in ("killed", "timeout")]
    survivors = [described(path, name) for path, name, status in alive if status == "survived"]
    rows = []
    for path, mutants in found.items():
        counts = Counter(mutants.values())
        rows.append([path, len(mutants), counts["killed"], counts["timeout"], len(mutants) - counts["killed"]
                     - counts["timeout"]])
    total = ["together", *(sum(row[column] for row in rows) for column in range(1, 5))]
    print(tabulate([*rows, total], ["module", "mutants", "killed", "timed out", "survived"], "github"))
    print(f"\n{100 * total[4] / total[1]:.1f} % survive")
    for path, name, status in alive:
        if status != "survived":
            print(f"{status}: {name} in {path}")
    if write:
        with LIST.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(
                [COLUMNS, *sorted((*mutant, reasons.get(mutant, "")) for mutant in survivors)])
    unknown = [mutant for mutant in survivors if not reasons.get(mutant)]
    for function, before, after in unknown:
        print(f"no reason for {function}\n    - {before}\n    + {after}")
    for mutant in reasons.keys() - set(survivors):
        print(f"listed, but killed: {mutant[0]}: {mutant[2]}")
    sys.exit(total[4] > MOST * total[1] or bool(unknown))


if __name__ == "__main__":
    main()
