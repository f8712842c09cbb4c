"""Sentences of `04_what_prompts_tell`, computed from the audits: true in every profile."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from pfedmoap.experiments import Grid
from pfedmoap.leakage import attacks, ownership
from pfedmoap.leakage.numbers import (
    DECODING,
    MEMBERSHIP,
    OWNERSHIP,
    Audits,
    dp,
    guessing,
    guessing_classes,
    others,
    summary,
)
from pfedmoap.leakage.scoring import FEW
from pfedmoap.leakage.study import CONTROL, STUDY

SURE = 2.0  # standard deviations of a guessing attack's mean, beyond which an attack is said to find something
NOTHING = 0.99  # a bound above this excludes next to nothing


def membership(grids: dict[str, Grid], audits: Audits) -> str:
    """What the attacks find without protection, and whether they find the images of over-fitted prompts."""
    lines = []
    areas = _plain(grids[STUDY], audits, MEMBERSHIP)
    for (data, method), here in areas.groupby(["data", "method"], sort=False):
        best = here.loc[here["mean"].idxmax()]
        found = _beyond(here, guessing(grids[STUDY], audits))
        lines.append(
            f"- **{data}, {method}**: the best of {len(here)} attacks is the {best['attack']} with AUC "
            f"{best['mean']:.3f}, and {100 * best['true_positives']:.1f} % true positives at {100 * FEW:g} % false. "
            + (f"Better than guessing: {_listed(found)}." if found else "None is better than guessing."))
    control = _plain(grids[CONTROL], audits, MEMBERSHIP)
    found = _beyond(control, guessing(grids[CONTROL], audits))
    lines.append(
        f"- **The control**, over-fitted on purpose: {len(found)} of {len(control)} attacks are better than guessing"
        + (f": {_listed(found)}." if found else ". Finding nothing above then proves nothing."))
    lines.append(
        f"\nBetter than guessing means an AUC more than {SURE:g} standard deviations (of an attack that guesses) above "
        f"0.5, without correction for looking at several attacks.")
    return "\n".join(lines)


def classes(grids: dict[str, Grid], audits: Audits) -> str:
    """How well the owned classes are told, without protection and at the smallest budget."""
    found = summary(grids[STUDY], audits)
    found, noise = found[found["kind"] == OWNERSHIP], guessing_classes(grids[STUDY], audits)
    last = list(dict.fromkeys(found["protection"]))[-1]
    lines = []
    for (data, method), here in found.groupby(["data", "method"], sort=False):
        plain, small = (here[here["protection"] == shown].set_index("attack")["mean"] for shown in ("none", last))
        best, spread = plain.idxmax(), noise[data, method, last]
        lines.append(f"- **{data}, {method}**: AUC {plain[ownership.UPLOAD]:.3f} from the upload alone, and "
                     f"{plain[best]:.3f} with the best score ({best}); the same score under {last}: {small[best]:.3f}, "
                     f"where guessing has a standard deviation of {spread[best]:.3f}. {_apart(small, spread)}")
    lines.append(f"\nA score is apart from guessing with an AUC more than {SURE:g} standard deviations (of guessing, "
                 f"each score its own) from 0.5, without correction for looking at several scores. Methods and budgets "
                 f"are no independent evidence: they share each seed's deal of the classes and draws of the noise.")
    return "\n".join(lines)


def guarantee(grid: Grid, audits: Audits) -> str:
    """What the budgets promise, whatever the attack, and for what."""
    first = next(iter(grid))
    total = first.dp_accounting == "total"
    budgets = dp(grid, audits).drop_duplicates("protection").set_index("protection")
    budgets = budgets[np.isfinite(budgets["epsilon"])]
    empty = budgets[budgets["bound_all"] > NOTHING]
    lines = [f"Here ε, with δ = {first.delta:g}, is promised for "
             + ("all of a client's uploads together." if total else "each upload, given what the client was sent.")
             + " What a client is sent is made of its earlier uploads too, so that the attacks of this notebook are "
               "bounded by what holds for all of its uploads together.\n"]
    if len(empty):
        lines.append(f"- {_listed(empty.index)}: an attack on all of a client's uploads may have any AUC up "
                     f"to {empty['bound_all'].min():.3f}, which excludes next to nothing.")
    for name, line in budgets.drop(empty.index).iterrows():
        promised = f"{line['bound_epsilon']:.3f} by ε and δ"
        lines.append(f"- {name}: an attack on all of a client's uploads has an AUC of at most {line['bound_all']:.3f} "
                     f"by the noise that is added" + f" ({promised})" * total
                     + f"; on one upload, given what was sent, {line['bound_one']:.3f}"
                     + f" ({promised})" * (not total) + ".")
    return "\n".join(lines)


def bought(grid: Grid, audits: Audits) -> str:
    """What the budgets change in practice, and what they cost."""
    areas, costs = summary(grid, audits), dp(grid, audits)
    lines = []
    for (data, method), cost in costs.groupby(["data", "method"], sort=False):
        here = areas[(areas["data"] == data) & (areas["method"] == method)].set_index(["attack", "protection"])["mean"]
        cost = cost.set_index("protection")
        own, sent = (" / ".join(f"{value:.1f}" for value in cost[f"accuracy_{kind}"]) for kind in ("own", "uploaded"))
        told, owned = (" / ".join(f"{here[attack, name]:.3f}" for name in cost.index)
                       for attack in (attacks.LIRA, ownership.OTHERS_ALL))
        most = " / ".join(f"{bound:.3f}" for bound in cost["bound_all"])
        paid = f"accuracy {own} %" + f" with own prompts and {sent} % with uploaded ones" * (own != sent)
        lines.append(f"- **{data}, {method}** ({' / '.join(cost.index)}): membership by likelihood ratio {told}; class "
                     f"ownership (all rounds, against others) {owned}; at most, by the noise of all uploads, {most}; "
                     f"{paid}.")
    return "\n".join(lines)


def decoded(grids: dict[str, Grid], audits: Audits) -> str:
    """Whether decoding a prompt tells anything."""
    found = _plain(grids[STUDY], audits, DECODING)
    same, names = (found[(found["attack"] == "unchanged") == chosen]["mean"] for chosen in (True, False))
    return (f"Between {100 * same.min():.0f} and {100 * same.max():.0f} % of the context vectors have the same nearest "
            f"token as before any training: to that extent the words are those of the random start. A client's own "
            f"class names are told from others' with AUCs from {names.min():.3f} to {names.max():.3f} (0.5: not at "
            f"all), each a mean over few clients and classes.")


def lending(grid: Grid, audits: Audits) -> str:
    """What a client learns of those whose prompts it is lent, and everybody from the average."""
    found = others(grid, audits)
    found = found[found["protection"] == "none"]
    lines = []
    for line in found[found["seen"].notna()].itertuples():
        text = (f"- **{line.data}, {line.method}**: a client is lent the prompts of {line.seen:.3g} of {line.of:.3g} "
                f"others in full. On one of them it reaches what the server does: AUC {line.membership:.3f} for "
                f"membership (calibrated loss), {line.ownership:.3f} for class ownership (against others).")
        if not np.isnan(line.linked):
            text += (f" Names are not lent, but of the prompts that it was lent twice it assigns "
                     f"{100 * line.linked:.0f} % to the right predecessor by their likeness (guessing: "
                     f"{100 * line.guessed:.0f} %).")
        lines.append(text)
    average = ", ".join(f"{line.data}, {line.method} {line.average:.3f}" for line in found.itertuples())
    lines.append(f"- **The averaged prompt**, which everyone gets: AUC for whether an image is anyone's (calibrated "
                 f"loss) {average}.")
    return "\n".join(lines)


def _plain(grid: Grid, audits: Audits, kind: str) -> pd.DataFrame:
    found = summary(grid, audits)
    return found[(found["kind"] == kind) & (found["protection"] == "none")]


def _beyond(found: pd.DataFrame, noise: pd.DataFrame) -> list[str]:
    """The attacks that are better than guessing, with their AUC."""
    return [f"{line['attack']} ({line['mean']:.3f})" for _, line in found.iterrows()
            if line["mean"] - 0.5 > SURE * noise.loc[line["data"], "cell"]]


def _apart(means: pd.Series, spread: pd.Series) -> str:
    """Which class scores are apart from guessing."""
    off = (means - 0.5) / spread[means.index]
    above, below = (means[chosen] for chosen in (off > SURE, off < -SURE))
    found = [f"{way} guessing {'are' if len(chosen) > 1 else 'is'} "
             + _listed(f"{name} ({value:.3f})" for name, value in chosen.items())
             for way, chosen in (("above", above), ("below", below)) if len(chosen)]
    return f"Of all {len(means)} scores, {' and '.join(found)}." if found else "No score is apart from guessing there."


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
