"""Table, sentences and figure of runs under attack."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pfedmoap.experiments import Grid
from pfedmoap.poisoning.attacks import FLIPPING, NONE
from pfedmoap.poisoning.numbers import Results, summary
from pfedmoap.poisoning.study import WEAK
from pfedmoap.reports import Block, Table, write_frame
from pfedmoap.reports.figures import canvas
from pfedmoap.system import write_atomically

EMPTY = "–"
COLOURS = {"none": "#7f7f7f", "median": "#0173b2", "trimmed": "#de8f05"}
PANELS = {"accuracy": "accuracy (%)", "success": "attack success (%)"}


def poisoning_table(federations: Grid, results: Results) -> Table:
    """Accuracy and attack success by attack and filter, a block per deal and method."""
    found, blocks = summary(federations, results), []
    for (deal, method), here in found.groupby(["deal", "method"], sort=False):
        lines = {}
        for attack, cells in here.groupby("attack", sort=False):
            line = {f"{name}, {one.filter}": f"{getattr(one, name):.1f} ± {getattr(one, f'{name}_std'):.1f}"
                    for name in PANELS for one in cells.itertuples()}
            median = cells[cells["filter"] == "median"].iloc[0]
            lines[attack] = line | {"refused by median: honest %": _share(median["honest_refused"]),
                                    "attackers %": _share(median["attackers_refused"])}
        text = pd.DataFrame(lines).T.rename_axis(index=None, columns=None)
        blocks.append(Block(f"{deal}, {method}", text, text.isna() & False))
    return Table(f"Poisoned prompts. Accuracy: of the clients that never attack, on their test images, in percent. "
                 f"Success: the share of their test images with the trigger that is answered with the attackers' "
                 f"class, also where nobody uses it. By filter on uploads; mean ± population standard deviation over "
                 f"seeds. {where(federations)}", tuple(blocks))


def where(federations: Grid) -> str:
    """What the numbers are of, and what they do not show."""
    first = next(iter(federations))
    seeds = sorted({one.seed for one in federations})
    over = f"{len(seeds)} seed{'s' * (len(seeds) > 1)} ({', '.join(map(str, seeds))})"
    embedded = " Embedded CLIP and data: no evidence about others." * (federations.profile != "paper")
    return (f"{first.dataset}, {first.clients} clients, profile {federations.profile}, {over}.{embedded} Not shown: "
            f"attackers that adapt to a filter, other triggers and targets, more rounds.")


def poisoning_reading(federations: Grid, results: Results) -> str:
    """What the worst attacks do to each method, and what the median filter changes and costs."""
    lines = []
    for (deal, method), own in summary(federations, results).groupby(["deal", "method"], sort=False):
        here = own.set_index(["attack", "filter"])
        calm = here.loc[NONE, "none"]
        attacks = [name for name in dict.fromkeys(name for name, _ in here.index) if name != NONE]
        told, weights = [], here["attention"].dropna()
        for attack in attacks:
            bare, kept = here.loc[attack, "none"], here.loc[attack, "median"]
            hit = "accuracy" if attack.startswith(FLIPPING) else "success"
            told.append(f"{attack}: {hit} {calm[hit]:.1f} → {bare[hit]:.1f} %, with the median filter "
                        f"{kept[hit]:.1f} %")
        lines.append(f"- **{deal}, {method}**: {'; '.join(told)}. Without attackers the median filter refuses "
                     f"{here.loc[NONE, 'median']['honest_refused']:.0f} % of the honest uploads, and accuracy goes "
                     f"from {calm['accuracy']:.1f} to {here.loc[NONE, 'median']['accuracy']:.1f} %."
                     + (f" On images with the trigger the gate gives an attacker's expert {weights.min():.2f} to "
                        f"{weights.max():.2f} times an even share of its attention." if len(weights) else ""))
    return "\n".join(lines)


def poisoning_figure(federations: Grid, results: Results) -> Figure:
    """Accuracy and attack success, a column per method, rows per deal; bars are filters, lines the seeds' spread."""
    found = summary(federations, results)
    deals, methods = (list(dict.fromkeys(found[name])) for name in ("deal", "method"))
    shape = 2 * len(deals), len(methods)
    tops = {"accuracy": 100, "success": 10 * np.ceil((found["success"] + found["success_std"]).max() / 10 + 0.1)}
    with canvas(*shape, figsize=(1 + 4 * shape[1], 0.8 + 2.1 * shape[0]), sharey="row", squeeze=False) as (
            figure, panels):  # fmt: skip
        for row, (deal, name) in enumerate((deal, name) for deal in deals for name in PANELS):
            for axes, method in zip(panels[row], methods, strict=True):
                here = found[(found["deal"] == deal) & (found["method"] == method)]
                attacks, filters = (list(dict.fromkeys(here[kind])) for kind in ("attack", "filter"))
                width = 0.8 / len(filters)
                for place, chosen in enumerate(filters):
                    own = here[here["filter"] == chosen].set_index("attack").loc[attacks]
                    at = np.arange(len(attacks)) + (place - (len(filters) - 1) / 2) * width
                    axes.bar(at, own[name], width, yerr=own[f"{name}_std"], color=COLOURS[chosen], label=chosen,
                             error_kw={"linewidth": 1, "ecolor": "0.2"})
                axes.set_xticks(range(len(attacks)), [_short(attack) for attack in attacks], fontsize=7.5)
                axes.set(title=f"{deal}, {method}" if name == "accuracy" else "", ylim=(0, tops[name]))
                axes.grid(False, axis="x")
            panels[row, 0].set_ylabel(PANELS[name])
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, [f"filter: {label}" for label in labels], loc="outside lower center", ncols=len(labels),
                      frameon=False)
    return figure


def write_poisoning(federations: Grid, results: Results, folder: str | Path) -> None:
    """Writes privacy_poisoning.csv and privacy_poisoning.md."""
    write_frame(summary(federations, results), folder, "privacy_poisoning")
    text = poisoning_table(federations, results).to_markdown()
    write_atomically(Path(folder) / "privacy_poisoning.md", text.encode())


def _share(value: float) -> str:
    return EMPTY if np.isnan(value) else f"{value:.0f}"


def _short(attack: str) -> str:
    """An attack's title on three lines at most."""
    kind, *rest = attack.replace("label flipping", "flipping").split(", ")
    few = [word.replace("attackers", "of 10").replace("attacker", "of 10") for word in rest]
    return "\n".join([kind, *[word.replace(WEAK, "as\ntrained") for word in few]])
