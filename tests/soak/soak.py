"""Kills the package's commands at random moments, has them go on, and compares what they leave: `make soak`.

    python tests/soak/soak.py [--kills 40] [--seed 0] [--works grids,features,notebooks,federations] [--keep]

A work (`soak_grids.py` and so on) is done once undisturbed. Then it is done in new folders, again and again, while
SIGKILL hits a random process of it, the process group of one of its commands, or all at once, at random moments of a
seeded generator; what a kill has ended is started again. At the end everything has to be as the undisturbed run left
it, with no process, temporary file or complaint besides. `striking.py` does it. It comes from outside, and shares no
code with `tests/kills` and `tests/flower`, which know where the package writes.

Each kill is a row of results/reliability/soak.csv, each work one of soak_works.csv and of the table soak.md beside it.
Rows of works that are not named stay as they are. Leaves with code 1 if anything was found.
"""

import argparse
import csv
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from soak_features import FEATURES
from soak_federations import FEDERATIONS
from soak_grids import GRIDS
from soak_notebooks import NOTEBOOKS
from striking import Life, Work, live, strikes
from tabulate import tabulate

WORKS = {work.name: work for work in (GRIDS, FEATURES, NOTEBOOKS, FEDERATIONS)}
OUT = Path(__file__).parents[2] / "results" / "reliability"
COLUMNS = "work", "life", "kill", "what", "counted_from", "seconds", "hit", "commands_ended", "outcome"
HEADINGS = ["work", "kills", "of one process", "of a group", "of all", "lives", "starts", "undisturbed, s", "compared",
            "as undisturbed", "found"]  # fmt: skip


def soak(work: Work, kills: int, seed: int, folder: Path) -> Iterator[list[Life]]:
    """Has a work done until it was killed so many times.

    Yields:
        The lives so far, the first of which is the undisturbed one, after each life.
    """
    moments = random.Random(f"{seed} {work.name}")
    whole = live(work, folder / "whole")
    say(f"{work.name}: undisturbed in {whole.seconds:.0f} s, {len(whole.content)} things to compare")
    lives = [whole]
    yield lives
    while not whole.problems and (left := kills - sum(len(life.hits) for life in lives)) > 0:
        planned = strikes(moments, whole.seconds, min(left, work.most))
        lives.append(life := live(work, folder / f"life-{len(lives)}", planned, whole))
        say(f"{work.name}: life {len(lives) - 1}, {len(life.hits)} kills, {life.starts} starts, {life.seconds:.0f} s: "
            f"{'; '.join(life.problems) or 'as undisturbed'}")
        yield lives


def rows(work: Work, lives: Sequence[Life]) -> list[list]:
    """A row for each kill."""
    found = []
    for number, life in enumerate(lives[1:], start=1):
        for kill, hit in enumerate(life.hits, start=1):
            ended = ", ".join(f"{name}: {'stopped' if code is None else code}" for name, code in hit.ended.items())
            found.append([work.name, number, kill, hit.strike.kind, hit.strike.after, f"{hit.strike.seconds:.2f}",
                          hit.hit, ended, "; ".join(life.problems) or "as undisturbed"])
    return found


def summary(work: Work, lives: Sequence[Life]) -> list:
    """The work's line of the table."""
    whole, *struck = lives
    kinds = Counter(hit.strike.kind for life in struck for hit in life.hits)
    problems = [problem for life in lives for problem in life.problems]
    same = sum(not life.problems for life in struck)
    return [work.name, kinds.total(), kinds["process"], kinds["group"], kinds["all"], len(struck),
            sum(life.starts for life in struck), f"{whole.seconds:.0f}", f"{len(whole.content)}: {work.compared}",
            f"{same} of {len(struck)}", "; ".join(dict.fromkeys(problems)) or "nothing"]


def merge(path: Path, headings: Sequence[str], lines: Sequence[Sequence], works: Sequence[str]) -> list[list[str]]:
    """Writes the lines of these works into a file that keeps those of others, in the order of `WORKS`; all of them."""
    kept = list(csv.reader(path.open(newline="")))[1:] if path.exists() else []
    kept = [line for line in kept if line[0] not in works]
    lines = [*kept, *([str(cell) for cell in line] for line in lines)]
    merged = sorted(lines, key=lambda line: list(WORKS).index(line[0]))
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([headings, *merged])
    return merged


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40, help="in all, dealt to the works")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")
    parser.add_argument("--works", default=",".join(WORKS), help="with commas between")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of soak.csv and soak.md")
    parser.add_argument("--keep", action="store_true", help="keep the folders that were worked in, and say where")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends what was started, too
    works = [WORKS[name] for name in options.works.split(",")]
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    options.out.mkdir(parents=True, exist_ok=True)
    found = False
    for place, work in enumerate(works):
        share = (options.kills + len(works) - 1 - place) // len(works)
        for lives in soak(work, share, options.seed, folder / work.name):  # what is known is written after each
            merge(options.out / "soak.csv", COLUMNS, rows(work, lives), [work.name])
            table = merge(options.out / "soak_works.csv", HEADINGS, [summary(work, lives)], [work.name])
            (options.out / "soak.md").write_text(f"{tabulate(table, HEADINGS, 'github')}\n")
        found = found or any(life.problems for life in lives)
    print((options.out / "soak.md").read_text())
    if options.keep:
        say(f"the folders are in {folder}")
    else:
        shutil.rmtree(folder)
    sys.exit(found)


if __name__ == "__main__":
    main()
