"""Sentences of `03_paper_and_code`, computed from the records: true in every profile."""

from collections.abc import Mapping, Sequence

import pandas as pd

from pfedmoap.experiments import Grid, Place, Store
from pfedmoap.methods import PFedMoAP
from pfedmoap.released.protocol import SWITCHES
from pfedmoap.released.study.differences import square, title
from pfedmoap.released.study.pattern import (
    CHAIN,
    PRIOR,
    Step,
    accuracy_lines,
    at_chance,
    chains,
    chance,
    steps,
    with_domains,
)
from pfedmoap.released.study.switchboard import LABELS
from pfedmoap.released.study.tables import origin_steps, shown, source

NOTABLE = 1.0  # points; smaller differences are left out of the sentences


def reading(grid: Grid, store: Store) -> str:
    """What the switches do on one data set: who is ahead, what moves whom, and what becomes of pFedMoAP's lead."""
    means, off, spread = (square(grid, store, what) for what in ("mean", "difference", "spread"))
    filled = means.fillna(means.loc["paper"])
    seeds = len({run.seed for run in grid})
    sentences = [f"**{title(grid)}.** Under the paper's protocol {_ranked(filled.loc['paper'])}."]
    if "released" in means.index:
        sentences.append(f"With all switches together {_ranked(filled.loc['released'])}.")
    moved = {switch: _moved(off.loc[switch], spread.loc[switch]) for switch in SWITCHES if switch in off.index}
    found = [f"`{switch}` ({text})" for switch, text in moved.items() if text]
    beyond = " and more than the spread over seeds" if seeds > 1 else " (one seed, so no spread to compare with)"
    sentences.append(f"Alone, {len(found)} of {len(moved)} switches run here move{'s' * (len(found) == 1)} a method by "
                     f"{NOTABLE:g} point or more{beyond}{': ' * bool(found)}{'; '.join(found)}.")
    if PFedMoAP.title in filled and len(filled.columns) > 1:
        sentences.append(_lead(filled))
    return " ".join(sentences)


def origins(boards: Mapping[str, Grid], store: Store) -> str:
    """Which published differences come with the method, and which with the code, as a list."""
    found: dict[str, list[str]] = {}
    for grid in boards.values():
        for (lower, upper), (known, paper, code) in origin_steps(grid, store).items():
            one = f"{upper} {'above' if known.mean > 0 else 'below'} {lower}"
            found.setdefault(source(known, paper, code), []).append(f"{one} ({title(grid)})")
    headings = {
        "both": "As published under both protocols: it comes with the methods",
        "the paper's only": "As published under the paper's protocol, and not with all switches together",
        "the released code's only": "As published only with all switches together: it comes with the code",
        "neither": "As published under neither: not explained here",
        "published within its spread": "Published, but within the published spread"}
    lines = [f"- **{headings[key]}:** {', '.join(found[key])}." for key in headings if key in found]
    if lines and len({run.seed for grid in boards.values() for run in grid}) == 1:
        lines.append("- One seed: whatever differs by its sign alone is counted, however little it is.")
    return "\n".join(lines)


def answer(
    boards: Mapping[str, Grid], store: Store, place: Place = Place(), protocols: Sequence[str] = LABELS
) -> str:
    """Whether one protocol alone gives the published pattern of Tables 3 and 4, set by set, as a list."""
    lines = []
    for grid in with_domains(boards):
        for protocol in protocols:
            found = {ours: accuracy for (name, ours), accuracy in chains(grid, store).items() if name == protocol}
            if not found:
                continue
            accuracy = next(iter(found.values()))
            first, guess = accuracy[CHAIN[0]], chance(grid, store)
            counted = accuracy_lines(grid, store, place).loc[protocol][PRIOR]
            noise = f" ± {first.std(ddof=0):.1f}" * (len(first) > 1)
            parts = [f"zero-shot scores {first.mean():.1f}{noise} %, {'' if at_chance(first, guess) else 'not '}at "
                     f"chance ({guess:g} %)", *map(_said, steps(accuracy)[:-1])]
            parts += [_said(steps(each)[-1]._replace(upper=ours)) for ours, each in found.items()]
            lines.append(f"- **{title(grid)}, {shown(protocol)} alone**: {'; '.join(parts)}. With its most frequent "
                         f"label as every answer a client would score {counted.mean():.1f} %.")
    return "\n".join(lines) or f"No set with domains was run with {' or '.join(protocols)} and all four methods."


def _said(one: Step) -> str:
    direction = "above" if one.mean > 0 else "below"
    if one.seeds == 1:
        firmness = "one seed"
    else:
        count = one.above if one.mean > 0 else one.seeds - one.above
        size = "more" if abs(one.mean) > one.spread else "no more"
        firmness = f"in {count} of {one.seeds} seeds, {size} than the spread"
    return f"{one.upper} {direction} {one.lower} by {str(one).lstrip('+-')} ({firmness})"


def _moved(off: pd.Series, spread: pd.Series) -> str:
    """The methods that a switch moves, the farthest first."""
    far = off[(off.abs() >= NOTABLE) & (off.abs() > spread)].sort_values(key=abs, ascending=False)
    return ", ".join(f"{method} {value:+.1f}" for method, value in far.items())


def _ranked(means: pd.Series) -> str:
    return ", ".join(f"{method} {value:.1f} %" for method, value in means.sort_values(ascending=False).items())


def _lead(means: pd.DataFrame) -> str:
    ours = PFedMoAP.title
    lead = (means[ours] - means.drop(columns=ours).max(axis=1)).rename(shown)
    text = f"{ours}'s lead over the best other method is {lead.iloc[0]:+.1f} points under the paper's protocol"
    others = lead.iloc[1:]
    if others.empty:
        return f"{text}."
    if len(others) == 1:
        return f"{text}, and {others.iloc[0]:+.1f} with {others.index[0]}."
    return (f"{text}, and between {others.min():+.1f} ({others.idxmin()}) and {others.max():+.1f} ({others.idxmax()}) "
            f"with the switches.")
