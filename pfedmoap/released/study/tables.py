"""The tables of `03_paper_and_code`, and their files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from pfedmoap.experiments import Grid, Place, Store
from pfedmoap.methods import CoOp, FedProx, PFedMoAP, PromptFL, ZeroShot
from pfedmoap.released.protocol import RELEASED, SWITCHES
from pfedmoap.released.study.differences import accuracies, differences, idle, name, square, title
from pfedmoap.released.study.pattern import (
    CHAIN,
    CHANCE_MARGIN,
    PRIOR,
    ROUNDING,
    Step,
    accuracy_lines,
    chains,
    chance,
    step,
    steps,
    verdict,
    with_domains,
)
from pfedmoap.reports import Block, Table, summary, write_frame
from pfedmoap.system import write_atomically

SAME, EMPTY = "=", "–"  # identical by construction: the switch cannot touch the run; no number
SHOWN = {"paper": "paper's protocol", "released": "all switches together"}
PAIRS = ((ZeroShot, PromptFL), (PromptFL, CoOp), (CoOp, PFedMoAP), (PromptFL, FedProx))  # of which the paper speaks


def shown(protocol: str) -> str:
    """A protocol as tables and figures call it."""
    return SHOWN.get(protocol, protocol.replace(",", " + "))


def switch_table() -> Table:
    """The switches, and what each does."""
    text = pd.DataFrame({"paper": [switch.paper for switch in SWITCHES.values()],
                         "released code": [switch.released for switch in SWITCHES.values()],
                         "what it is about": [switch.help for switch in SWITCHES.values()]}, index=list(SWITCHES))
    return Table("The values of every switch; the paper's are the defaults.", (_plain("Protocol switches", text),))


def difference_table(grid: Grid, store: Store) -> Table:
    """Accuracies under the paper's protocol and under all switches, and each switch's difference from the paper's."""
    means, stds, off, spread = (square(grid, store, what) for what in ("mean", "std", "difference", "spread"))
    seeds = sorted({run.seed for run in grid})
    accuracy = _texts(means, stds, len(seeds)).loc[[each for each in SHOWN if each in means.index]]
    change = _texts(off, spread, len(seeds), sign="+").iloc[1:]
    beyond = (off.abs() > spread + ROUNDING).iloc[1:] & (len(seeds) > 1)
    for frame in (accuracy, change, beyond):
        frame.index = [shown(protocol) for protocol in frame.index]
    change_heading = "Difference from the paper's protocol, in points: each switch alone, then together"
    noise = (f"± is the population standard deviation over {len(seeds)} seeds ({', '.join(map(str, seeds))}), of a "
             f"difference that of the differences seed by seed; bold: farther from 0 than that."
             if len(seeds) > 1 else f"One seed ({seeds[0]}), so no spread.")
    caption = (f"{title(grid)}, profile {grid.profile}{_data(grid)}. {noise} {SAME}: identical by construction, so not "
               f"run.")
    if any(row.settings.get("protocol") == RELEASED for row in grid.rows) and (nothing := idle(grid)):
        caption += f" Nothing on these data is touched by {', '.join(nothing)}."
    return Table(caption, (_plain("Accuracy in percent", accuracy), Block(change_heading, change, beyond)))


def accuracy_table(boards: Mapping[str, Grid], store: Store, place: Place = Place()) -> Table:
    """Sets with domains: every method under each protocol that concerns the labels, and as published."""
    grids = with_domains(boards)
    columns = list(dict.fromkeys(name(row) for grid in grids for row in grid.rows))
    blocks = []
    for grid in grids:
        by_protocol = accuracy_lines(grid, store, place).groupby("protocol", sort=False)
        means, stds = by_protocol.mean(), by_protocol.std(ddof=0)
        text = _texts(means, stds, int(by_protocol.size().iloc[0]), empty=EMPTY).rename(shown)
        known = published_averages(grid, store)
        text.loc["published, other data" if grid.profile != "paper" else "published"] = {
            method: f"{mean:.2f} ± {std:.2f}" for method, (mean, std) in known.items()}
        blocks.append(_plain(title(grid), text.reindex(columns=[*columns, PRIOR]).fillna(EMPTY)))
    return Table("Accuracy in percent, mean ± population standard deviation over seeds. Published: the average over "
                 f"domains in the paper's table. \"{PRIOR[:1].upper()}{PRIOR[1:]}\": what a client scores with that "
                 "answer to every image; counted in the partition, no model is run.", tuple(blocks))


def order_table(boards: Mapping[str, Grid], store: Store) -> Table:
    """Sets with domains: step by step from zero-shot to pFedMoAP, and whether the published pattern comes out."""
    columns = [f"{CHAIN[0]} − chance", *(f"{upper} − {lower}" for lower, upper in zip(CHAIN, CHAIN[1:], strict=False))]
    blocks = []
    for grid in with_domains(boards):
        by_chance = chance(grid, store)
        lines = {}
        for (protocol, variant), accuracy in chains(grid, store).items():
            found = [step(accuracy.assign(chance=by_chance), "chance", CHAIN[0]), *steps(accuracy)]
            lines[f"{shown(protocol)}; {variant}"] = [*map(str, found), verdict(accuracy, by_chance)]
        if lines:
            text = pd.DataFrame(lines, index=[*columns, "published pattern?"]).T
            blocks.append(_plain(title(grid), text))
    return Table("Differences in points, mean ± population standard deviation of the differences seed by seed. The "
                 f"published pattern: zero-shot within {CHANCE_MARGIN:g} points of chance, every other step upwards.",
                 tuple(blocks))


def origin_table(boards: Mapping[str, Grid], store: Store) -> Table:
    """Who is ahead of whom in the paper's table, and under which protocol here."""
    blocks = []
    for grid in boards.values():
        if found := origin_steps(grid, store):
            blocks.append(_plain(title(grid), pd.DataFrame({
                f"{upper} − {lower}": [str(known), str(paper), str(code), source(known, paper, code)]
                for (lower, upper), (known, paper, code) in found.items()},
                index=["published", shown("paper"), shown("released"), "as published under"]).T))
    return Table("Differences in points, ± the spread of the differences over seeds; of the published ones the larger "
                 "of the two rows' standard deviations. As published: of the same sign in every seed, and farther from "
                 "0 than the spread.", tuple(blocks))


def origin_steps(grid: Grid, store: Store) -> dict[tuple[str, str], tuple[Step, Step, Step]]:
    """(lower, upper method) -> the published difference, and those under the paper's and the released protocol."""
    wide = accuracies(grid, store)
    if "released" not in wide:
        return {}
    known = published_averages(grid, store)
    names = {kind: next((name(row) for row in grid.rows if type(row.method) is kind and name(row) in known), None)
             for kind in (ZeroShot, PromptFL, CoOp, FedProx, PFedMoAP)}
    found = {}
    for lower, upper in ((names[lower], names[upper]) for lower, upper in PAIRS):
        if lower and upper:
            here = [step(wide[protocol], lower, upper) for protocol in ("paper", "released")]
            off, spread = known[upper][0] - known[lower][0], max(known[upper][1], known[lower][1])
            found[lower, upper] = Step(lower, upper, off, spread, 3 * (off > 0), 3), *here
    return found


def source(known: Step, paper: Step, code: Step) -> str:
    """Under which protocols a difference is as published."""
    if not known.firm:
        return "published within its spread"
    alike = tuple(bool(one.firm and np.sign(one.mean) == np.sign(known.mean)) for one in (paper, code))
    return {(True, True): "both", (True, False): "the paper's only", (False, True): "the released code's only",
            (False, False): "neither"}[alike]


def _data(grid: Grid) -> str:
    return "" if grid.profile == "paper" else ", on embedded data in place of the paper's"


def published_averages(grid: Grid, store: Store) -> dict[str, tuple[float, float]]:
    """Method -> mean and std in the grid's column of the paper's table."""
    names = {row.title: name(row) for row in grid.rows if not row.released}
    numbers = summary(grid, store).dropna(subset="published_mean")
    return {names[line.row]: (line.published_mean, line.published_std) for line in numbers.itertuples()
            if line.row in names}


# --- files


def write_differences(boards: Mapping[str, Grid], store: Store, folder: str | Path) -> None:
    """Writes every switchboard's table and numbers as paper_and_code_<name>.md and .csv."""
    for board, grid in boards.items():
        write(difference_table(grid, store), folder, f"paper_and_code_{board}")
        write_frame(differences(grid, store), folder, f"paper_and_code_{board}")


def write(table: Table, folder: str | Path, name: str) -> None:
    """Writes <name>.md, the table as people read it."""
    write_atomically(Path(folder) / f"{name}.md", table.to_markdown().encode())


# --- cells


def _plain(heading: str, text: pd.DataFrame) -> Block:
    return Block(heading, text.rename_axis(index=None, columns=None), text.isna() & False)


def _texts(
    means: pd.DataFrame, spreads: pd.DataFrame, seeds: int, sign: str = "", empty: str = SAME
) -> pd.DataFrame:
    """ "1.20 ± 0.30", or without a spread if there is one seed only."""
    def text(mean: float, spread: float) -> str:
        return empty if np.isnan(mean) else f"{round(mean, 2) + 0:{sign}.2f}" + f" ± {spread:.2f}" * (seeds > 1)

    return pd.DataFrame({method: map(text, means[method], spreads[method]) for method in means}, means.index)
