"""The tables of `04_what_prompts_tell`, and their files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pfedmoap.experiments import Grid
from pfedmoap.leakage import attacks, ownership
from pfedmoap.leakage.numbers import (
    CELL,
    DECODING,
    MEMBERSHIP,
    OWNERSHIP,
    Audits,
    cells,
    covered,
    dp,
    guessing,
    guessing_classes,
    others,
    summary,
)
from pfedmoap.leakage.scoring import FEW
from pfedmoap.leakage.study import CONTROL, OVER_FITTED_TITLE, STUDY
from pfedmoap.reports import Block, Table, write_frame
from pfedmoap.system import write_atomically

EMPTY = "–"
AUC = "AUC, the area under the ROC curve (0.5: guessing, 1: certainty)"
SPREAD = "mean over clients, ± the population standard deviation over seeds"
NO_EVIDENCE = "Embedded CLIP and data: no evidence about other CLIPs and data."


def membership_table(grids: dict[str, Grid], audits: Audits) -> Table:
    """Every membership attack without protection, and on the prompts that were over-fitted on purpose."""
    found = _unprotected(grids, audits, MEMBERSHIP)
    noise = pd.concat([guessing(grid, audits) for grid in grids.values()])
    rates = ", ".join(f"{data} {line.one_client:.3f}, {line.cell:.3f}" for data, line in noise.iterrows())
    areas = _wide(found, _area, attacks.ATTACKS)
    extremes = _wide(found, lambda line: f"{line.lowest:.2f} to {line.highest:.2f}", attacks.ATTACKS)
    few = _wide(found, lambda line: f"{100 * line.true_positives:.1f} %", attacks.ATTACKS)
    caption = (f"Was this image trained on? {AUC}; {SPREAD}; no protection. Standard deviation of an attack that "
               f"guesses, for one client and for a mean over clients and seeds: {rates}. {_where(grids)}")
    return Table(caption, (
        _block("Mean over clients", areas),
        _block("Least and most exposed client of a seed, mean over seeds", extremes),
        _block(f"True positives at {100 * FEW:g} % false positives, all clients of a seed together", few)))


def ownership_table(grids: dict[str, Grid], audits: Audits) -> Table:
    """Which classes a client owns, without protection."""
    found = _unprotected(grids, audits, OWNERSHIP)
    noise = pd.concat([guessing_classes(grid, audits) for grid in grids.values()])
    found = found.assign(spread=[noise[line.data, line.method, line.protection, line.attack]
                                 for line in found.itertuples()])
    rates = ", ".join(f"{data} {_range(own['spread'])}" for data, own in found.groupby("data", sort=False))
    caption = (f"Does the client own this class? {AUC}, over classes; {SPREAD}. Standard deviation of a score that "
               f"guesses, for a mean over clients and seeds, exact over all deals of the classes, the smaller the more "
               f"the clients' scores have in common: {rates}. {_where(grids)}")
    return Table(caption, (
        _block("Without protection", _wide(found, _area, ownership.SCORES)),
        _block("Standard deviation of the same scores if the classes were dealt out anew",
               _wide(found, lambda line: _number(line.spread), ownership.SCORES))))


def dp_table(grid: Grid, audits: Audits) -> Table:
    """Attacks, accuracy and guarantees beside each other, budget by budget."""
    found = {tuple(getattr(line, name) for name in (*CELL, "attack")): line
             for line in summary(grid, audits).itertuples()}
    members, owners = guessing(grid, audits)["cell"], guessing_classes(grid, audits).xs(ownership.OTHERS_ALL, level=3)
    rates = ", ".join(f"{data} {spread:.3f}, {_range(owners[data])}" for data, spread in members.items())
    blocks = []
    for (data, method), lines in dp(grid, audits).groupby(["data", "method"], sort=False):
        rows = {}
        for line in lines.itertuples():
            here = data, method, line.protection
            rows[line.protection] = {
                "membership: likelihood ratio": _area(found[*here, attacks.LIRA]),
                "membership: prompt direction": _area(found[*here, attacks.DIRECTION]),
                "class ownership: all rounds, against others": _area(found[*here, ownership.OTHERS_ALL]),
                "accuracy, own prompt": f"{line.accuracy_own:.1f} ± {line.std_own:.1f}",
                "accuracy, uploaded prompt": f"{line.accuracy_uploaded:.1f} ± {line.std_uploaded:.1f}",
                f"at most, {covered(grid)}, by ε and δ": f"{line.bound_epsilon:.3f}",
                "at most, one upload, given what was sent, by the noise": f"{line.bound_one:.3f}",
                "at most, all uploads, by the noise": f"{line.bound_all:.3f}"}
        blocks.append(_block(f"{data}, {method}", pd.DataFrame(rows).T))
    return Table(f"Attacks: {AUC}; accuracy in percent; {SPREAD}. Standard deviation of guessing, for a mean over "
                 f"clients and seeds, of membership and of class ownership: {rates}. At most: the largest AUC that any "
                 f"attack can have, by (ε, δ), and by the noise that was really added. What bounds the attacks of this "
                 f"table is the noise of all uploads, as what the client was sent is made of its earlier uploads too; "
                 f"the bounds on one upload take what was sent as given: they say what the upload adds. "
                 f"{_where({STUDY: grid})}", tuple(blocks))


def decoding_table(grids: dict[str, Grid], audits: Audits) -> Table:
    """The first client's prompt of the first seed in words, and whether decoding tells anything at all."""
    first = {}
    for grid in grids.values():
        for cell, one in cells(grid, audits):
            if cell["protection"] == "none":
                first.setdefault((cell["data"], cell["method"]), one["words"])
    numbers = _unprotected(grids, audits, DECODING)
    titles = {"unchanged": "nearest token as before training", "nearer": "own class names nearer",
              "came nearer": "own class names came nearer"}
    names = _wide(numbers, _area, tuple(titles)).rename(columns=titles)
    heading = "Share of context vectors with the same nearest token as before training; AUC over classes"
    (data, method), words = list(first.items())[0]
    lines = pd.DataFrame(words["data"], words["index"], words["columns"]).map(
        lambda value: value if isinstance(value, str) else f"{value:.4f}")
    text = f"Nearest tokens by Euclidean distance, the nearest first. First client, first seed: {data}, {method}."
    return Table(f"{text} {_where(grids)}", (_block("In words", lines), _block(heading, names)))


def others_table(grid: Grid, audits: Audits) -> Table:
    """What other clients learn from what the server sends them, by protection."""
    rows = {}
    for line in others(grid, audits).itertuples():
        lent = not np.isnan(line.seen)
        rows[f"{line.data}, {line.method}, {line.protection}"] = {
            "prompts lent to a client": f"{line.seen:.3g} of {line.of:.3g}" if lent else EMPTY,
            "membership, a lent prompt": _number(line.membership), "classes, a lent prompt": _number(line.ownership),
            "linked over rounds": f"{100 * line.linked:.0f} % (guessing {100 * line.guessed:.0f} %)"
            if not np.isnan(line.linked) else EMPTY,
            "membership, averaged prompt": _number(line.average)}
    return Table("What a client learns of others, without knowing whose prompts it is lent: AUC of the attacks that "
                 "need no shadow clients (calibrated loss; for classes the loss against others), mean over lent "
                 f"prompts and seeds. {_where({STUDY: grid})}", (_block("By protection", pd.DataFrame(rows).T),))


def write(grids: dict[str, Grid], audits: Audits, folder: str | Path) -> None:
    """Writes privacy_attacks.csv, privacy_dp.csv and privacy_others.csv, and every table as privacy_<name>.md."""
    both = [summary(grid, audits).assign(over_fitted=name == CONTROL) for name, grid in grids.items()]
    write_frame(pd.concat(both), folder, "privacy_attacks")
    shown = {"membership": membership_table(grids, audits), "classes": ownership_table(grids, audits),
             "words": decoding_table(grids, audits)}
    if STUDY in grids:
        write_frame(dp(grids[STUDY], audits), folder, "privacy_dp")
        write_frame(others(grids[STUDY], audits), folder, "privacy_others")
        shown |= {"dp": dp_table(grids[STUDY], audits), "others": others_table(grids[STUDY], audits)}
    for name, table in shown.items():
        write_atomically(Path(folder) / f"privacy_{name}.md", table.to_markdown().encode())


# --- cells


def _unprotected(grids: dict[str, Grid], audits: Audits, kind: str) -> pd.DataFrame:
    """The lines of `summary` without protection, of both grids."""
    parts = []
    for name, grid in grids.items():
        frame = summary(grid, audits)
        frame = frame[(frame["kind"] == kind) & (frame["protection"] == "none")]
        title = frame["data"] + ", " + (OVER_FITTED_TITLE if name == CONTROL else frame["method"])
        parts.append(frame.assign(title=title))
    return pd.concat(parts)


def _wide(frame: pd.DataFrame, text, columns: Sequence[str]) -> pd.DataFrame:
    cells = frame.assign(text=[text(line) for line in frame.itertuples()])
    wide = cells.pivot(index="title", columns="attack", values="text")
    return wide.loc[list(dict.fromkeys(frame["title"])), list(columns)]


def _area(line) -> str:
    return f"{line.mean:.3f} ± {line.std:.3f}"


def _number(value: float) -> str:
    return EMPTY if np.isnan(value) else f"{value:.3f}"


def _range(values: pd.Series) -> str:
    """Such as "0.011 to 0.029", of equal ones "0.029"."""
    return " to ".join(dict.fromkeys((_number(values.min()), _number(values.max()))))


def _block(heading: str, text: pd.DataFrame) -> Block:
    return Block(heading, text.rename_axis(index=None, columns=None), text.isna() & False)


def _where(grids: dict[str, Grid]) -> str:
    seeds = sorted({one.seed for grid in grids.values() for one in grid})
    over = f"{len(seeds)} seed{'s' * (len(seeds) > 1)} ({', '.join(map(str, seeds))})"
    profile = next(iter(grids.values())).profile
    return f"Profile {profile}, {over}." + f" {NO_EVIDENCE}" * (profile != "paper")
