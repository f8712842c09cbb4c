"""What ARTIFACT.md says of every table and figure, computed from the committed results: it cannot go stale."""

from pathlib import Path

import pandas as pd
from tabulate import tabulate

from pfedmoap.errors import UserError
from pfedmoap.experiments import GRIDS
from pfedmoap.reports.claims import Verdict, read_ledger, read_verdicts, tolerance
from pfedmoap.reports.page.collected import Entry, collect
from pfedmoap.reports.page.together import duration, totals
from pfedmoap.system import figures_dir, results_dir, write_atomically

BEGIN, END = "<!-- made by pfedmoap report --artefact ARTIFACT.md -->", "<!-- end of what is made -->"


def write_expected(path: Path) -> None:
    """Puts `expected` between the two marks of a Markdown file; the rest stays.

    Raises:
        UserError: there is no such file, or it lacks the marks.
    """
    text = path.read_text() if path.is_file() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"{path} has no place for the tables: put the lines {BEGIN} and {END} into it")
    write_atomically(path, f"{before}{BEGIN}\n\n{expected()}\n\n{END}{after}".encode())


def expected() -> str:
    """Of every table and figure: command, time, machine, claims with verdicts, expected cells, what differs.

    Accuracies and times are those of `results/quick`, verdicts those of `results/long`.
    """
    quick, long = ({entry.name: entry for entry in collect(name, results_dir(name), figures_dir(name))}
                   for name in ("quick", "long"))
    verdicts, grids = read_verdicts(results_dir("long")), {claim.id: claim.given.get("grid") for claim in read_ledger()}
    lines = [[entry.title, f"`{entry.command}`", _time(entry), _time(long[name]), _machine(entry)]
             for name, entry in quick.items()]
    lines.append(["together", "`make reproduce`", *(_together(entries) for entries in (quick, long)), ""])
    parts = [_table(lines, ["", "command", "runs and their time, `quick`", "`long`", "machine"])]
    for name, entry in quick.items():
        of_grid = [verdict for verdict in verdicts if grids.get(verdict.id) == name]
        caption = entry.facts["table"]["caption"]
        parts += [f"### {entry.title}: {entry.subject}", _claims(of_grid), _cells(entry), caption]
    rest = [verdict for verdict in verdicts if grids.get(verdict.id) not in GRIDS]
    return "\n\n".join(filter(None, [*parts, "### Claims that rest on no single table", _claims(rest)]))


def _time(entry: Entry) -> str:
    return f"{entry.facts['runs']} in {duration(entry.seconds)}"


def _together(entries: dict[str, Entry]) -> str:
    runs, seconds = totals(entries.values())
    return f"{runs} in {duration(seconds)}"


def _machine(entry: Entry) -> str:
    return "; ".join(entry.facts["machines"])


def _claims(verdicts: list[Verdict]) -> str:
    lines = [[f"`{verdict.id}`", verdict.says, verdict.shown, verdict.words] for verdict in verdicts]
    return _table(lines, ["claim", "says", "verdict on `long`", "found"]) if lines else ""


def _cells(entry: Entry) -> str:
    """The cells of a table's first block, each with how far rounding may move it."""
    cells = pd.read_csv(results_dir("quick") / f"{entry.name}.csv")
    allowed = tolerance(cells.assign(std_there=cells["std"], seeds_there=cells["seeds"]))
    cells["words"] = [f"{mean:.1f} ± {wide:.1f}" for mean, wide in zip(cells["mean"], allowed, strict=True)]
    block = entry.facts["table"]["blocks"][0]
    rows = cells.pivot(index="method", columns="column", values="words")[list(dict.fromkeys(cells["column"]))]
    lines = [[name, *rows.loc[name]] for name in block["rows"]]
    return _table(lines, ["expected of `quick`, ± tolerance", *block["columns"][: rows.shape[1]]])


def _table(lines: list[list[str]], headings: list[str]) -> str:
    return tabulate(lines, headings, tablefmt="github", disable_numparse=True)
