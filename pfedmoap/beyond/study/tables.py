"""The tables of `06_beyond_the_paper`, and their files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pfedmoap.beyond.answers import H_ALL, H
from pfedmoap.beyond.study.grids import BASE_NEW, NEW_CLIENTS, UNSEEN
from pfedmoap.beyond.study.numbers import SEEN, curves, gate_worth, measures
from pfedmoap.experiments import Grid, Store
from pfedmoap.reports import Block, Table, statistics, write_frame
from pfedmoap.system import write_atomically

EMPTY = "–"
BASE_NEW_HEADS = {"local": "local", "base": "base", "new": "new", H: "H", "base_among_all": "base among all",
                  "new_among_all": "new among all", H_ALL: "H among all"}
GATE_MEASURES = {"base": "base", "new": "new", "base_among_all": "base among all", "new_among_all": "new among all"}
UNSEEN_MEAN, SEEN_MEAN = "mean", "own domains, mean"


def base_new_table(grid: Grid, store: Store) -> Table:
    """Local, base and new accuracy of every method, a part per data set, and what the gate adds on each."""
    lines = measures(grid, store)
    blocks = []
    for column, heading in zip(grid.columns, grid.headings(), strict=True):
        here = lines[lines["column"] == column.title]
        blocks += _blocks(grid, heading, here, "measure", BASE_NEW_HEADS)
    worth = gate_worth(grid, store)
    if len(worth):
        text = worth[worth["measure"].isin(GATE_MEASURES)].groupby(["row", "column", "measure"], sort=False)
        cells = text["difference"].agg(_signed).unstack("measure")[list(GATE_MEASURES)].rename(columns=GATE_MEASURES)
        names = dict(zip([column.title for column in grid.columns], grid.headings(), strict=True))
        cells.index = [f"{row}, {names[column]}" for row, column in cells.index]
        blocks.append(_block("What the gate adds to the client's own prompt alone, in points", cells))
    return Table(f"Base to new: the first half of the classes is dealt and trained on, the rest never. Every client is "
                 f"tested on its own base classes (local), on all base classes and on the new ones, choosing among "
                 f"base, among new, and among all classes. H: harmonic mean of local, base and new; H among all: of "
                 f"base and new among all. {_read(grid)}", tuple(blocks))


def new_clients_table(grid: Grid, store: Store) -> Table:
    """Newcomers: cold, after local epochs, with experts, and by their images; a part per data set."""
    points = curves(grid, store)
    blocks = []
    for column, heading in zip(grid.columns, grid.headings(), strict=True):
        here = points[points["column"] == column.title]
        epochs, images = (sorted(set(here["at"][here["curve"] == curve].tolist())) for curve in ("epochs", "images"))
        heads = {("epochs", 0): "cold"} | {("epochs", at): f"{at} epoch{'s' * (at > 1)}" for at in epochs if at}
        heads |= {("experts", at): f"second participation, {at} epoch{'s' * (at > 1)}" for at in epochs if at}
        heads |= {("images", at): f"up to {at} image{'s' * (at > 1)}" for at in images if at}
        keyed = here.assign(point=list(zip(here["curve"], here["at"], strict=True)))
        partition = next(runs[0].partition for (_, title), runs in grid.cells.items() if title == column.title)
        blocks += _blocks(grid, f"{heading}, {partition}", keyed, "point", heads)
    return Table(f"New clients: a share of the clients takes no part in training and joins afterwards. Cold: with what "
                 f"it downloads, without having looked at an image of its own. Epochs: after so many local epochs from "
                 f"there. Second participation: after its prompt has entered the pool, with what it then downloads; "
                 f"pFedMoAP from the global prompt with its experts and a fresh gate. Up to so many images: of each "
                 f"class for training, after the usual number of epochs. Accuracy on the newcomers' own test images, "
                 f"mean over newcomers. {_read(grid)}", tuple(blocks))


def unseen_table(grid: Grid, store: Store) -> Table:
    """Every domain left out in turn, the mean over them, and the accuracy on the clients' own domains."""
    lines = measures(grid, store)
    heads = {column.title: heading for column, heading in zip(grid.columns, grid.headings(), strict=True)}
    unseen = lines[lines["measure"] == "unseen"].assign(where=lambda frame: frame["column"])
    means = [lines[lines["measure"] == measure].groupby(["row", "seed"], sort=False)["accuracy"].mean().reset_index()
             .assign(where=name) for measure, name in (("unseen", UNSEEN_MEAN), (SEEN, SEEN_MEAN))]
    blocks = _blocks(grid, "left out", pd.concat([unseen, *means]), "where",
                     heads | {name: name for name in (UNSEEN_MEAN, SEEN_MEAN)})
    return Table(f"Unseen domains: one domain is neither dealt nor trained on, and every client is tested on all of "
                 f"its test images; mean over clients. Own domains: the paper's accuracy in the same runs. "
                 f"{_read(grid)}", tuple(blocks))


def write(grids: Mapping[str, Grid], store: Store, folder: str | Path) -> list[Path]:
    """Writes beyond_<question>.csv and .md for each, beyond_gate.csv and beyond_curves.csv; returns their paths."""
    made = {BASE_NEW: base_new_table, NEW_CLIENTS: new_clients_table, UNSEEN: unseen_table}
    paths = []
    for name, grid in grids.items():
        paths += [write_frame(measures(grid, store), folder, f"beyond_{name}"), Path(folder) / f"beyond_{name}.md"]
        write_atomically(paths[-1], made[name](grid, store).to_markdown().encode())
    if BASE_NEW in grids:
        paths.append(write_frame(gate_worth(grids[BASE_NEW], store), folder, "beyond_gate"))
    if NEW_CLIENTS in grids:
        paths.append(write_frame(curves(grids[NEW_CLIENTS], store), folder, "beyond_curves"))
    return paths


def _blocks(grid: Grid, heading: str, lines: pd.DataFrame, by: str, heads: Mapping) -> list[Block]:
    """A block of the methods, one of the controls and one of the plain classifiers, where there are any.

    Args:
        lines: columns row, seed, accuracy and `by`, whose values are the keys of `heads`.
    """
    plain = [row.title for row in grid.rows if row.method.plain]
    compared = [row.title for row in grid.compared]
    controls = [row.title for row in grid.rows if row.title not in (*plain, *compared)]
    parts = ((heading, compared, "run"), (f"{heading}: controls", controls, "controls"),
             (f"{heading}: plain classifiers", plain, "classifiers"))
    return [_of_rows(title, lines[lines["row"].isin(rows)], rows, by, heads, kind)
            for title, rows, kind in parts if rows]


def _of_rows(heading: str, lines: pd.DataFrame, rows: Sequence[str], by: str, heads: Mapping, kind: str) -> Block:
    text, best = {}, {}
    for key, head in heads.items():
        here = lines[lines[by].map(lambda value, key=key: value == key)]
        seeds = here.groupby("row")["accuracy"]
        shown = {row: _cell(values) for row, values in seeds}
        text[head] = [shown.get(row, EMPTY) for row in rows]
        best[head] = _best(here, list(seeds.groups)).reindex(rows).eq(True) if kind == "run" and len(here) else False
    cells = pd.DataFrame(text, index=rows)
    return Block(heading, cells, cells.isna(), kind, pd.DataFrame(best, index=rows) & True)


def _best(lines: pd.DataFrame, rows: list[str]) -> pd.Series:
    """Which rows cannot be told from the best, or, where seeds are too few to tell, which is the best."""
    each = lines.assign(column="", client=0)
    if statistics.can_separate(lines["seed"].nunique()):
        return statistics.against_best(each, rows) > statistics.LEVEL
    means = lines.groupby("row")["accuracy"].mean().round(2)
    return means == means.max()


def _block(heading: str, text: pd.DataFrame) -> Block:
    return Block(heading, text.rename_axis(index=None, columns=None), text.isna() & False, "diagnosis")


def _cell(values: pd.Series) -> str:
    return f"{values.mean():.1f} ± {values.std(ddof=0):.1f}" if len(values) > 1 else f"{values.mean():.1f}"


def _signed(values: pd.Series) -> str:
    mean = np.round(values.mean(), 1) + 0.0
    return f"{mean:+.1f}" + (f" ± {values.std(ddof=0):.1f}" if len(values) > 1 else "")


def _read(grid: Grid) -> str:
    """How to read the cells: profile, spread, and what is underlined."""
    seeds = sorted({run.seed for run in grid})
    spread = f"± is the population standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    marked = ("underlined: not told from the best method of its column by the exact test over seeds"
              if statistics.can_separate(len(seeds)) else
              "underlined: the best method of a column, which so few seeds cannot tell from the next")
    return f"Accuracy in percent; profile {grid.profile}, {spread}; {marked}."

