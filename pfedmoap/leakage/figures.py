"""The figures of `04_what_prompts_tell`. They are returned, not shown."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sklearn.metrics import roc_curve

from pfedmoap.experiments import Grid
from pfedmoap.leakage import attacks, ownership
from pfedmoap.leakage.numbers import MEMBERSHIP, OWNERSHIP, Audits, cells, covered, dp, guessing, pooled, summary
from pfedmoap.leakage.study import CONTROL, OVER_FITTED_TITLE
from pfedmoap.methods import METHODS
from pfedmoap.reports.figures import ACCURACY, COLORS, canvas

SHOWN = {(MEMBERSHIP, attacks.LIRA): ("membership (likelihood ratio)", "o-"),
         (OWNERSHIP, ownership.OTHERS_ALL): ("class ownership (all rounds, against others)", "s--")}
LINES = dict(zip(attacks.ATTACKS, sns.color_palette("colorblind", 10).as_hex(), strict=False))


def exposure(grid: Grid, audits: Audits) -> Figure:
    """Attacks above, accuracy below, against the privacy budget; a column per data set.

    Lines are means over seeds with a band of one standard deviation. Black: no attack can do better, by the noise that
    was added on all of a client's uploads, which is what bounds the attacks here; and, dotted, by epsilon and delta on
    what they are promised for. Grey band: two standard deviations of a mean of attacks that guess who is a member.
    """
    areas, costs, noise = summary(grid, audits), dp(grid, audits), guessing(grid, audits)
    titles = {method.title: COLORS[name] for name, method in METHODS.items()}
    sets = list(dict.fromkeys(areas["data"]))
    order = list(dict.fromkeys(areas["protection"]))
    with canvas(2, len(sets), figsize=(1.5 + 4.6 * len(sets), 6.6), sharex=True, sharey="row", squeeze=False) as (
            figure, panels):  # fmt: skip
        for (above, below), data in zip(panels.T, sets, strict=True):
            here, cost = areas[areas["data"] == data], costs[costs["data"] == data]
            for method in dict.fromkeys(here["method"]):
                for (kind, attack), (label, style) in SHOWN.items():
                    one = here[(here["method"] == method) & (here["kind"] == kind) & (here["attack"] == attack)]
                    _line(above, order, one, "mean", "std", style, titles[method], f"{method}: {label}")
                one = cost[cost["method"] == method]
                _line(below, order, one, "accuracy_own", "std_own", "o-", titles[method], f"{method}: own prompt")
                if not np.allclose(one["accuracy_own"], one["accuracy_uploaded"]):
                    _line(below, order, one, "accuracy_uploaded", "std_uploaded", "s--", titles[method],
                          f"{method}: uploaded prompt")
            bounds = cost[cost["method"] == cost["method"].iloc[0]].set_index("protection").loc[order]
            above.plot(order, bounds["bound_epsilon"], ":", color="black",
                       label=f"at most, by ε and δ, {covered(grid)}")
            above.plot(order, bounds["bound_all"], "-", color="black", linewidth=1,
                       label="at most, by the noise, all uploads")
            off = 2 * noise.loc[data, "cell"]
            above.axhspan(0.5 - off, 0.5 + off, color="0.85", linewidth=0, label="guessing membership", zorder=0)
            above.set(title=data, ylim=(0.38, 1.03))
            below.set(xlabel="protection of uploads", ylim=(0, 100))
            below.set_xticks(range(len(order)), [name.replace("clipping only", "clipping\nonly") for name in order])
        panels[0, 0].set_ylabel("area under the ROC curve")
        panels[1, 0].set_ylabel(ACCURACY)
        found = {label: handle for panel in panels.flat
                 for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)}
        figure.legend(found.values(), found, loc="outside lower center", ncols=2 + (len(sets) > 1), frameon=False)
    return figure


def _line(axes: Axes, order: list[str], lines: pd.DataFrame, what: str, spread: str, style: str, color: str,
          label: str) -> None:  # fmt: skip
    lines = lines.set_index("protection").loc[order]
    axes.plot(order, lines[what], style, color=color, label=label, markersize=5, linewidth=1.6)
    axes.fill_between(range(len(order)), lines[what] - lines[spread], lines[what] + lines[spread], color=color,
                      alpha=0.15, linewidth=0)


def roc(grids: dict[str, Grid], audits: Audits) -> Figure:
    """True against false positives on logarithmic axes, without protection: all clients and seeds together."""
    panels = {}
    for name, grid in grids.items():
        for cell, one in cells(grid, audits):
            if cell["protection"] == "none":
                title = f"{cell['data']}\n{OVER_FITTED_TITLE if name == CONTROL else cell['method']}"
                panels.setdefault(title, []).append(one)
    with canvas(1, len(panels), figsize=(1 + 2.7 * len(panels), 3.9), sharex=True, sharey=True, squeeze=False) as (
            figure, (row,)):  # fmt: skip
        least = 1 / max(int((~pooled(group, attacks.LOSS)[1]).sum()) for group in panels.values())
        for axes, (title, group) in zip(row, panels.items(), strict=True):
            for attack, color in LINES.items():
                scores, member = pooled(group, attack)
                false, true, _ = roc_curve(member, scores, drop_intermediate=False)
                axes.plot(false.clip(least / 2), true.clip(least / 2), color=color, label=attack, linewidth=1.6)
            axes.plot([least / 2, 1], [least / 2, 1], "--", color="0.4", linewidth=1, label="guessing")
            axes.set(title=title, xscale="log", yscale="log", xlim=(least, 1), ylim=(least, 1),
                     xlabel="false-positive rate", aspect="equal")
        row[0].set_ylabel("true-positive rate")
        figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=7, frameon=False)
    return figure


def owned_classes(grid: Grid, audits: Audits) -> Figure:
    """Clients by classes: how far the loss on public images of a class fell, more than through the others' uploads.

    Per client in standard deviations from its mean over classes; frames are the classes that it owns. First method and
    seed; above without protection, below with the smallest epsilon.
    """
    found = cells(grid, audits)
    first = found[0][0]["method"]
    order = list(dict.fromkeys(cell["protection"] for cell, _ in found))
    kept = [order[0], order[-1]]
    chosen: dict[tuple[str, str], dict] = {}
    for cell, one in found:
        if cell["method"] == first and cell["protection"] in kept:
            chosen.setdefault((cell["protection"], cell["data"]), one)
    sets = list(dict.fromkeys(data for _, data in chosen))
    widths = [max(1.0, len(chosen[kept[0], data]["clients"][0]["owned"]) / 10) ** 0.5 for data in sets]
    with canvas(len(kept), len(sets), figsize=(10.5, 5.2), squeeze=False, gridspec_kw={"width_ratios": widths}) as (
            figure, rows):  # fmt: skip
        for panels, shown in zip(rows, kept, strict=True):
            for axes, data in zip(panels, sets, strict=True):
                clients = chosen[shown, data]["clients"]
                owned = np.array([client["owned"] for client in clients])  # (clients, C)
                score = np.array([client["ownership"][ownership.OTHERS_ALL] for client in clients])
                score = (score - score.mean(1, keepdims=True)) / score.std(1, keepdims=True).clip(1e-12)
                by_owner = np.argsort(owned.argmax(0), kind="stable")
                sns.heatmap(score[:, by_owner], cmap="PuOr", vmin=-2.5, vmax=2.5, cbar=axes is panels[-1], ax=axes,
                            xticklabels=False, yticklabels=[client["client"] for client in clients],
                            cbar_kws={"label": "standard deviations"})
                for row, column in np.argwhere(owned[:, by_owner]):
                    axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor="black", linewidth=1))
                axes.set(title=f"{data}, {first}, protection: {shown}", xlabel="class", ylabel="client")
                axes.tick_params(axis="y", rotation=0)
    return figure
