"""What clients spend of their privacy, round by round: the ledger of a record, as a table and as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pfedmoap.errors import refuse_unknown
from pfedmoap.experiments import SEEDS, STAND_INS, Experiment, Record, from_profile
from pfedmoap.federation import Plan, Round
from pfedmoap.leakage.study import SETS
from pfedmoap.methods import PFedMoAP
from pfedmoap.protection import spent
from pfedmoap.reports import Block, Table, write_frame
from pfedmoap.reports.figures import canvas
from pfedmoap.system import write_atomically

# Half of the clients per round, so that they spend unequally; more rounds than in `quick`, to see it.
SETTINGS = {"participation": 0.5, "rounds": 8, "local_epochs": 1}
SPENT = {"smoke": (2.0,), "quick": (0.5, 2.0), "long": (0.5, 2.0), "paper": (0.5, 2.0)}  # epsilon of an upload


def private_runs(profile: str = "quick", seeds: Sequence[int] | None = None, **overrides: Any) -> list[Experiment]:
    """Runs whose clients take part by chance, with a guarantee for every upload; of the first seed alone.

    What is spent depends on who takes part and on the noise, and neither on images nor on what is learned.
    """
    refuse_unknown([profile], list(SPENT), "profile")
    dataset, settings = STAND_INS[SETS[0]][profile != "paper"], SETTINGS | overrides
    seed = (seeds or SEEDS[profile])[0]
    return [from_profile(dataset, PFedMoAP(), profile, **settings | {"epsilon": epsilon, "seed": seed})
            for epsilon in SPENT[profile]]


def ledger(record: Record) -> pd.DataFrame:
    """A record's ledger: one line per upload with round, client, uploads (so far), multiplier, epsilon (of all so far).

    Of a run without privacy it is empty.
    """
    experiment = Experiment.from_dict(record["experiment"])
    plan = Plan(experiment.rounds, experiment.participation, experiment.recipe, experiment.privacy)
    history = [Round(entry["number"], entry["selected"],
                     sigmas={int(client): sigma for client, sigma in entry["sigmas"].items()})
               for entry in record["rounds"]]
    lines = spent(history, plan, record["data"]["train_images"])
    frame = pd.DataFrame(lines, columns=["round", "client", "uploads", "multiplier", "epsilon"])
    return frame.astype({"epsilon": float})


def balances(records: Sequence[Record]) -> pd.DataFrame:
    """What each client has spent in the end.

    Returns:
        A line per run and client: promised (epsilon of an upload), delta, client, uploads, epsilon of all.
    """
    frames = []
    for record in records:
        last = ledger(record).groupby("client").tail(1).sort_values("client")
        promised = {"promised": record["experiment"]["epsilon"], "delta": record["experiment"]["delta"]}
        frames.append(last[["client", "uploads", "epsilon"]].assign(**promised))
    return pd.concat(frames)[["promised", "delta", "client", "uploads", "epsilon"]].reset_index(drop=True)


def ledger_table(records: Sequence[Record]) -> Table:
    """What each client has spent in the end, a column per promise."""
    last = balances(records)
    wide = {"uploads": last.groupby("client")["uploads"].first().map(str)}
    wide |= {f"ε of all, every upload at ε = {promised:g}": own.set_index("client")["epsilon"].map("{:.2f}".format)
             for promised, own in last.groupby("promised", sort=False)}
    text = pd.DataFrame(wide)
    text.index = [f"client {client}" for client in text.index]
    settings = records[0]["experiment"]
    caption = (f"Privacy spent after {settings['rounds']} rounds, each with {100 * settings['participation']:g} % of "
               f"the clients; δ = {settings['delta']:g} throughout. {settings['dataset']}, pFedMoAP, seed "
               f"{settings['seed']}. It does not depend on what was learned.")
    return Table(caption, (Block("Who took part more often has spent more", text, text.isna() & False),))


def write_ledger(records: Sequence[Record], folder: str | Path) -> None:
    """Writes privacy_ledger.csv, a line per upload, and privacy_ledger.md."""
    frames = [ledger(record).assign(promised=record["experiment"]["epsilon"]) for record in records]
    write_frame(pd.concat(frames), folder, "privacy_ledger")
    write_atomically(Path(folder) / "privacy_ledger.md", ledger_table(records).to_markdown().encode())


def ledger_figure(records: Sequence[Record]) -> Figure:
    """Epsilon of all of a client's uploads so far, by round: a line per client, a panel per run."""
    with canvas(1, len(records), figsize=(1 + 4.4 * len(records), 3.9), squeeze=False) as (figure, (row,)):
        for axes, record in zip(row, records, strict=True):
            lines, settings = ledger(record), record["experiment"]
            rounds, clients = range(settings["rounds"] + 2), sorted(lines["client"].unique())
            palette = sns.color_palette("viridis", len(clients))
            for place, (client, colour) in enumerate(zip(clients, palette, strict=True)):
                own = lines[lines["client"] == client].set_index("round")["epsilon"]
                level = own.reindex(rounds).ffill().fillna(0.0) * (1 + 0.006 * (place - len(clients) / 2))
                axes.step(rounds, level, where="post", color=colour, linewidth=1.5, label=f"{client}")
            axes.axhline(settings["epsilon"], color="black", linestyle=":", linewidth=1.2)
            axes.set(xlim=(0, settings["rounds"] + 0.5), xlabel="after round", ylim=(0, None),
                     title=f"every upload (ε = {settings['epsilon']:g}, δ = {settings['delta']:g})")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        row[0].set_ylabel(f"ε of all uploads so far, δ = {records[0]['experiment']['delta']:g}")
        figure.legend(*row[0].get_legend_handles_labels(), title="client (lines set apart a little)",
                      loc="outside lower center", ncols=10, frameon=False)
    return figure


def ledger_reading(records: Sequence[Record]) -> str:
    """What a guarantee per upload adds up to."""
    found = []
    for (promised, delta), own in balances(records).groupby(["promised", "delta"], sort=False):
        least, most = own.loc[own["uploads"].idxmin()], own.loc[own["uploads"].idxmax()]
        found.append(f"- ε = {promised:g} for each upload (δ = {delta:g}): the client that took part least has spent "
                     f"ε = {least['epsilon']:.2f} in {int(least['uploads'])}, the one that did most "
                     f"{most['epsilon']:.2f} in {int(most['uploads'])} uploads, all together at the same δ.")
    return "\n".join(found)
