"""The table of a grid: its cells, and its files with what they rest on."""

import hashlib
import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pfedmoap.experiments import Grid, Store
from pfedmoap.reports.captions import caption, reading, sentences, without_folders
from pfedmoap.reports.layout import Block, Table, write_frame
from pfedmoap.reports.numbers import INITIAL_STD, clients, records, summary, traffic
from pfedmoap.reports.statistics import LEVEL, against_best, can_separate
from pfedmoap.reports.tuned import beside_tuned
from pfedmoap.system import paths, write_atomically

__all__ = ["caption", "costs", "fingerprint", "reading", "table", "write_frame", "write_table"]

EMPTY = "–"


def table(grid: Grid, store: Store, folder: str | Path | None = None) -> Table:
    """The grid's table: reproduced mean ± std, with the published cell and the difference where the data are the same.

    Outside the `paper` profile the published numbers are a block of their own, as they are about other data.

    Args:
        folder: where `pfedmoap tune` may have left its results, which Table 1 then shows beside the paper's settings.
    """
    numbers, each = summary(grid, store).set_index(["row", "column"]), clients(grid, store)
    compared = [row.title for row in grid.rows if not row.control and not row.released]
    released = [row.title for row in grid.rows if row.released]
    controls = [row.title for row in grid.rows if row.control and not row.method.plain]
    classifiers = [row.title for row in grid.rows if row.control and row.method.plain]
    if grid.profile == "paper":
        blocks = [_lines(grid, numbers, compared, each)] if compared else []
    else:
        blocks = [_tested(_block("Run here, on embedded stand-ins", grid, numbers, compared), each)] if compared else []
        if released:
            heading = "The same under the released code's protocol"
            blocks.append(_plain(heading, grid, numbers, released, "released"))
    if controls:
        blocks += [_plain("Controls, untrained or crippled on purpose: how much is knowing one's own classes, and how "
                          "much is left without experts or a trained prompt", grid, numbers, controls, "controls")]
    if classifiers:
        heading = "Plain classifiers of the same frozen image features: what one would pick instead"
        blocks += [_plain(heading, grid, numbers, classifiers, "classifiers")]
    blocks += [*_entropy(grid, numbers), *_noise(grid, numbers)]
    for block in blocks:
        block.text.columns = block.bold.columns = grid.headings()
        if block.underlined is not None:
            block.underlined.columns = grid.headings()
    if folder is not None:
        blocks += beside_tuned(grid, store, folder)
    known = [row for row in compared if numbers.loc[row, "published_mean"].notna().any()]
    if known and grid.profile != "paper":
        heading = ("Published in the paper, on other data and another CLIP: not to be compared cell by cell; bold: the "
                   "highest")
        blocks.append(_block(heading, grid, numbers, known, "published_mean", "published_std", "published"))
    return Table(caption(grid, store), tuple(blocks))


def write_table(grid: Grid, store: Store, folder: str | Path) -> list[Path]:
    """Writes <name>.csv (one line per cell), <name>.md, .tex, .json and <name>_clients.csv; returns their paths.

    The last has one line per cell, seed and client (`numbers.clients`), without columns that average others.

    The JSON file says what the table rests on: a fingerprint of the grid and of the CLIP, versions, runs and their
    seconds, the sentences that read it, and why columns are empty. With the table itself, also there, it is all that
    `page` needs.
    """
    data = summary(grid, store).rename(columns={"row": "method"})
    datasets = {column.title: column.dataset for column in grid.columns}
    data.insert(2, "dataset", data["column"].map(datasets))
    data.insert(0, "table", grid.name)
    data.insert(1, "profile", grid.profile)
    data = data.drop(columns=[name for name in ("attention_entropy", "sigma") if data[name].isna().all()])
    if grid.profile != "paper":  # numbers about other data do not belong on the same line
        data = data.drop(columns=["published_mean", "published_std", "difference"])
    shown = table(grid, store, folder)
    paths = [write_frame(data, folder, grid.name)]
    facts = json.dumps(_provenance(grid, store) | {"table": shown.to_dict()}, indent=1, ensure_ascii=False) + "\n"
    for ending, text in (("md", shown.to_markdown()), ("tex", shown.to_latex()), ("json", facts)):
        paths.append(Path(folder) / f"{grid.name}.{ending}")
        write_atomically(paths[-1], text.encode())
    each = clients(grid, store)
    return [*paths, write_frame(each[each["column"].isin(whole_columns(grid))], folder, f"{grid.name}_clients")]


def whole_columns(grid: Grid) -> list[str]:
    """The titles of the columns that are no average of others."""
    parts = {column.dataset for column in grid.columns if column.domain}
    return [column.title for column in grid.columns if column.domain or column.dataset not in parts]


def costs(grid: Grid, store: Store) -> pd.DataFrame:
    """What the methods cost, by row: seconds of a run, and what a client and all of them send and receive."""
    table = traffic(grid, store)
    return pd.DataFrame({
        "seconds per run": table["seconds"].round(1),
        "KiB received per client and round": (table["bytes_down"] / 2**10).round(1),
        "KiB sent per client and round": (table["bytes_up"] / 2**10).round(1),
        "MiB in the whole run": (table["total"] / 2**20).round(2)})


def fingerprint(grid: Grid) -> str:
    """16 hex digits that stand for all runs of a grid and for where they stand in it."""
    cells = {" | ".join(cell): [item.key for item in experiments] for cell, experiments in grid.cells.items()}
    return hashlib.sha256(json.dumps(cells, sort_keys=True).encode()).hexdigest()[:16]


# --- blocks


def _block(
    heading: str, grid: Grid, numbers: pd.DataFrame, rows: Sequence[str], mean: str = "mean", std: str = "std",
    kind: str = "run",
) -> Block:  # fmt: skip
    """Cells as "mean ± std"; the best of a column, as printed, in bold."""
    columns = [column.title for column in grid.columns]
    means = numbers[mean].unstack("column").loc[rows, columns].round(2)
    spreads = numbers[std].unstack("column").loc[rows, columns]
    several = numbers["seeds"].max() > 1 or std != "std"
    text = pd.DataFrame({column: [_cell(m, s, several) for m, s in zip(means[column], spreads[column], strict=True)]
                         for column in columns}, index=rows)
    return Block(heading, text, means.eq(means.max()) if len(rows) > 1 else means.isna() & False, kind)


def _tested(block: Block, each: pd.DataFrame) -> Block:
    """Bold only where the best is better than every other row; underlined what cannot be told from it.

    With fewer seeds than can tell two rows apart the best is underlined, and nothing is bold.
    """
    bold, underlined = block.bold & False, block.bold & False
    for column in block.bold.columns[block.bold.any()]:
        if can_separate(each[each["column"] == column]["seed"].nunique()):
            close = against_best(each, list(bold.index), [column]) > LEVEL
            bold[column] = close & (close.sum() == 1)
            underlined[column] = close & (close.sum() > 1)
        else:
            underlined[column] = block.bold[column]
    return replace(block, bold=bold, underlined=underlined)


def _plain(heading: str, grid: Grid, numbers: pd.DataFrame, rows: Sequence[str], kind: str) -> Block:
    """A block that is no competition: nothing in bold."""
    block = _block(heading, grid, numbers, rows)
    return Block(heading, block.text, block.bold & False, kind)


def _lines(grid: Grid, numbers: pd.DataFrame, rows: Sequence[str], each: pd.DataFrame) -> Block:
    """Each method with its released-protocol line, its published line and the differences under it."""
    heading = "Run here, and as published; differences also in units (σ) of the published standard deviation"
    here = _tested(_block(heading, grid, numbers, rows), each)
    known = _block("", grid, numbers, rows, "published_mean", "published_std").text
    pairs = {row.released: row.title for row in grid.rows if row.released}
    again = _block("", grid, numbers, list(pairs.values())).text if pairs else None
    lines = {}
    for row in rows:
        lines[row] = here.text.loc[row]
        if row in pairs:
            lines[f"{row}: released protocol"] = again.loc[pairs[row]]
        if numbers.loc[row, "published_mean"].notna().any():
            lines[f"{row}: published"] = known.loc[row]
            lines[f"{row}: difference"] = _differences(numbers.loc[row], here.text.columns)
            if row in pairs:
                released = _differences(numbers.loc[pairs[row]], here.text.columns)
                lines[f"{row}: difference, released protocol"] = released
    bold, underlined = (marked.reindex(list(lines), fill_value=False) for marked in (here.bold, here.underlined))
    return Block(heading, pd.DataFrame(lines).T[here.text.columns], bold, underlined=underlined)


def _differences(cells: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """ "-3.41 (-85.3 σ)"; a dash where the published standard deviation is 0.00."""
    def text(cell: pd.Series) -> str:
        if np.isnan(cell["difference"]):
            return EMPTY
        spread = cell["published_std"]
        in_spreads = f"{cell['difference'] / spread:+.1f} σ" if spread else EMPTY
        return f"{cell['difference']:+.2f} ({in_spreads})"

    return cells.apply(text, axis=1).reindex(columns)


def _entropy(grid: Grid, numbers: pd.DataFrame) -> list[Block]:
    """Where rows differ in their experts: whether the gate tells them apart."""
    kinds = {(row.method.experts, row.method.expert_choice) for row in grid.compared if hasattr(row.method, "experts")}
    entropy = numbers["attention_entropy"].unstack("column").dropna(how="all")
    rows = [row.title for row in grid.rows if row.title in entropy.index and not row.released]
    if len(kinds) < 2 or not rows:
        return []
    text = entropy.reindex(columns=[column.title for column in grid.columns]).loc[rows].map(_three_decimals)
    heading = "Entropy of the attention over experts (1: all weigh the same, so that the gate does not choose)"
    return [Block(heading, text.rename_axis(None), text.isna() & False, "diagnosis")]


def _noise(grid: Grid, numbers: pd.DataFrame) -> list[Block]:
    """With privacy: how the noise on an upload compares with the prompt that it hides."""
    sigma = numbers["sigma"].unstack("column").dropna(how="all")
    rows = [row.title for row in grid.rows if row.title in sigma.index]
    if not rows:
        return []
    text = sigma.reindex(columns=[column.title for column in grid.columns]).loc[rows].map(
        lambda value: EMPTY if np.isnan(value) else f"{value:.2g} ({value / INITIAL_STD:.2g}×)")
    heading = f"σ of the noise on an upload, and as a multiple of the prompt's initial {INITIAL_STD}"
    return [Block(heading, text.rename_axis(None), text.isna() & False, "diagnosis")]


def _cell(mean: float, std: float, several: bool) -> str:
    if np.isnan(mean):
        return EMPTY
    return f"{mean:.2f} ± {std:.2f}" if several else f"{mean:.2f}"


def _three_decimals(value: float) -> str:
    return EMPTY if np.isnan(value) else f"{value:.3f}"


# --- what it rests on


def _provenance(grid: Grid, store: Store) -> dict[str, Any]:
    by_key = {record["key"]: record for _, _, _, record in records(grid, store)}
    unique = by_key.values()
    versions = [json.dumps(record["versions"], sort_keys=True) for record in unique if "versions" in record]
    clips = [record["clip"] for record in unique if "clip" in record]
    return {
        "grid": fingerprint(grid),
        "seeds": sorted({item.seed for item in grid}),
        "runs": len(unique),
        "seconds": round(sum(record["seconds"]["total"] for record in unique), 1),
        "clip": sorted({f"{clip['name']} ({clip['weights']}) {clip['fingerprint'][:12]}" for clip in clips}),
        "devices": sorted({clip["device"] for clip in clips}),
        "machines": sorted({record["machine"] for record in unique if "machine" in record}),
        "data": sorted({without_folders(record["data"]["source"]) for record in unique}),
        "versions": [json.loads(text) for text in sorted(set(versions))],
        "commit": _commit(),
        "missing": {column: without_folders(reason) for column, reason in grid.missing.items()},
        "reading": sentences(grid, store),
        "seconds_by_run": {key: round(record["seconds"]["total"], 1) for key, record in sorted(by_key.items())},
    }


def _commit() -> str:
    """The project's commit, with "+" if files differ from it; empty where there is no git, or no clone."""
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(paths.ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    if not paths.IN_CLONE:  # the folder that it is called in may be another project's
        return ""
    try:
        return git("rev-parse", "--short=12", "HEAD").strip() + "+" * bool(git("status", "--porcelain", "pfedmoap"))
    except (OSError, subprocess.CalledProcessError):
        return ""

