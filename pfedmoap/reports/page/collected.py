"""What the folders of a profile hold about each table and figure of the paper, and whether it is up to date."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pfedmoap.experiments import GRIDS, Grid
from pfedmoap.reports.captions import title_of
from pfedmoap.reports.tables import fingerprint
from pfedmoap.system import read_json

KINDS = ("run", "published", "released", "controls", "classifiers", "tuned", "diagnosis")  # of blocks, in their order
CURRENT, OUTDATED, MISSING = "up to date", "out of date", "missing"
NEEDED = {"grid", "missing", "reading", "seconds_by_run", "table"}  # of a table's JSON file
OPTIONS = {"smoke": " --profile smoke", "quick": "", "long": " --profile long",
           "paper": " --profile paper --data-root DIR --device cuda"}  # fmt: skip
SHOWS = {
    "protocols": "the same methods under the paper's protocol and under that of the released code",
    "entropy": "entropy of the attention over experts; at 1 all weigh the same",
    "ranks": "mean ranks over the columns; a bar joins what the seeds cannot tell apart",
    "rounds": "accuracy after every round; the band is one standard deviation over seeds",
    "clients": "every client after the last round, a dot for each client and seed",
    "compute": "accuracy, mean over the data sets, against steps, seconds and bytes spent; a point after every round",
    "traffic": "what a client receives and sends in a round in which it takes part",
}  # the figures of a grid besides its main one, in this order


@dataclass(frozen=True)
class Entry:
    """A table or figure of the paper, as found.

    Attributes:
        name, title, subject: such as "table3", "Table 3", "six domains, each dealt to five clients".
        state: `CURRENT`, `OUTDATED` or `MISSING`.
        why: the reason, if it is not current.
        command: what makes it, or makes it again.
        facts: its JSON file (`report.write_table`); empty if it is missing.
        figures: what it shows -> its PNG file.
    """

    name: str
    title: str
    subject: str
    state: str
    why: str
    command: str
    facts: dict[str, Any]
    figures: dict[str, Path]

    @property
    def seconds(self) -> float:
        """Of all its runs, added up."""
        return sum(self.facts.get("seconds_by_run", {}).values())


def collect(profile: str, results: Path, figures: Path) -> list[Entry]:
    """One entry for each grid, in the paper's order."""
    return [_entry(build(profile), results, figures) for build in GRIDS.values()]


def command(names: Iterable[str], profile: str) -> str:
    """What makes these tables and figures, or makes them again."""
    return f"pfedmoap reproduce {' '.join(names)}{OPTIONS[profile]}"


def _entry(grid: Grid, results: Path, figures: Path) -> Entry:
    facts, why = _read(results / f"{grid.name}.json")
    state = CURRENT if facts else MISSING
    if facts and facts["grid"] != fingerprint(grid.without(facts["missing"])):
        state, why = OUTDATED, "made with other runs (settings, seeds or CLIP) than those of its grid now"
    subject = GRIDS[grid.name].__doc__.splitlines()[0].partition(": ")[2].rstrip(".")
    shown = _figures(grid, figures) if facts else {}
    return Entry(grid.name, title_of(grid), subject, state, why, command([grid.name], grid.profile), facts, shown)


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """A table's JSON file; if it cannot be used, nothing and why."""
    try:
        facts = read_json(path)
    except FileNotFoundError:
        return {}, "there is no file of its numbers"
    except (OSError, ValueError):
        return {}, "the file of its numbers cannot be read"
    if not isinstance(facts, dict) or not NEEDED <= facts.keys():
        return {}, "the file of its numbers was written by an earlier version of this package"
    if not _has_form(facts):
        return {}, "the file of its numbers is damaged"
    return facts, ""


def _has_form(facts: dict[str, Any]) -> bool:
    """Whether the file has what the page shows, in the form that `tables.write_table` gives it."""
    texts = ("reading", "clip", "data", "devices", "machines")
    try:
        return (all(_are(str, facts.get(name, [])) for name in texts) and _are(int, facts.get("seeds", []))
                and _are(str, facts["missing"].values())
                and all(_are(str, versions.values()) for versions in facts.get("versions", []))
                and _are(str, [facts["grid"], facts.get("commit", ""), facts["table"]["caption"]])
                and _are(int, [facts.get("runs", 0)])
                and all(type(each) in (int, float) and abs(each) < 1e12 for each in facts["seconds_by_run"].values())
                and all(map(_is_block, facts["table"]["blocks"])))
    except (AttributeError, KeyError, TypeError):
        return False


def _is_block(block: dict[str, Any]) -> bool:
    shape = [len(block["columns"])] * len(block["rows"])
    kinds = {"cells": str, "bold": bool, "underlined": bool}
    return (_are(str, [block["kind"], block["heading"], *block["columns"], *block["rows"]])
            and block["kind"] in KINDS and bool(block["rows"])
            and all(isinstance(block[name], list) and [len(row) for row in block[name]] == shape
                    and all(isinstance(row, list) and _are(kind, row) for row in block[name])
                    for name, kind in kinds.items()))


def _are(kind: type, values: Iterable[Any]) -> bool:
    return not isinstance(values, str) and all(type(value) is kind for value in values)


def _figures(grid: Grid, folder: Path) -> dict[str, Path]:
    main = f"accuracy against {grid.axis}" if grid.axis else "accuracy of the methods"
    paths = {main: folder / f"{grid.name}.png"}
    paths |= {shows: folder / f"{grid.name}_{kind}.png" for kind, shows in SHOWS.items()}
    return {shows: path for shows, path in paths.items() if path.is_file()}


def others(results: Path, figures: Path) -> tuple[list[Path], list[Path]]:
    """The tables (CSV) and figures (PNG) of notebooks that stand behind no table or figure of the paper."""
    known = {*GRIDS, *(f"{name}_{kind}" for name in GRIDS for kind in SHOWS)}
    found = results.glob("*.csv"), figures.glob("*.png")
    tables, pictures = (sorted(path for path in paths if path.stem not in known) for paths in found)
    return tables, pictures
