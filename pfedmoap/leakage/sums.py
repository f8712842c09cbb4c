"""Secure aggregation: the server sees the weighted sum of a round's uploads and no upload. Who can do without them?

Every client multiplies its upload by n_i, and only the sum of these and of the n_i comes to light (Bonawitz et al.
2017). What a method needs is found by running its verbs on two servers: one with the uploads, and one with their
average in everyone's place. If clients download the same from both, the sum is enough.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from pfedmoap.experiments import STAND_INS, Column, Experiment, Grid, Place, Row, Store, build_grid, prepare
from pfedmoap.leakage.study import SETS
from pfedmoap.methods import METHODS, Context, Method, PFedMoAP
from pfedmoap.randomness import generator
from pfedmoap.reports import Block, Table, write_frame
from pfedmoap.server import Pool, Server, Tensors, weighted_average
from pfedmoap.system import write_atomically

NOTHING, ENOUGH, EACH = "nothing is sent", "the sum", "each upload"
ROUNDS = 2
PRICE = "secure_aggregation"


def summed(uploads: Mapping[int, Tensors], sizes: Mapping[int, int]) -> dict[int, Tensors]:
    """What a server can make of the sum alone: the average in everyone's place."""
    names = next(iter(uploads.values()))
    average = {name: weighted_average({client: upload[name] for client, upload in uploads.items()}, sizes)
               for name in names}
    return dict.fromkeys(uploads, average)


def needs(method: Method, context: Context, sizes: Mapping[int, int]) -> str:
    """What a method's server needs of the clients' uploads: "the sum", "each upload", or nothing, as none is made.

    Clients download, change what they train by random numbers in place of training, and upload, for two rounds.

    Args:
        sizes: client -> n_i.
    """
    plain, blind = (Server(method.initial_shared(context), Pool(), len(sizes), context.seed) for _ in range(2))
    for number in range(1, ROUNDS + 1):
        uploads = {client: _upload(method, plain, client, number, context) for client in sizes}
        if not any(uploads.values()):
            return NOTHING
        for server, seen in ((plain, uploads), (blind, summed(uploads, sizes))):
            method.enter(server, seen)
            method.aggregate(server, seen, sizes)
            server.round += 1
        if not all(_alike(method.download(plain, client), method.download(blind, client)) for client in sizes):
            return EACH
    return ENOUGH


def _upload(method: Method, server: Server, client: int, number: int, context: Context) -> Tensors:
    start = method.start(method.download(server, client), {}, client, context)

    def moved(name: str) -> torch.Tensor:
        draw = generator(context.seed, "in place of training", number, client, name)
        return start[name] + 0.02 * torch.from_numpy(draw.standard_normal(tuple(start[name].shape))).to(start[name])

    return method.upload({name: moved(name) for name in start})


def _alike(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(
        one[name].shape == other[name].shape and torch.allclose(one[name], other[name], rtol=1e-5, atol=1e-6)
        for name in one)


def needs_table(experiment: Experiment, place: Place = Place()) -> pd.DataFrame:
    """One line per method, and per choice of experts for pFedMoAP: what its server needs; index "method".

    Args:
        experiment: whose CLIP, clients and their numbers of images are used.
    """
    variants = {cls().title: cls() for cls in METHODS.values()}
    ours = PFedMoAP.title
    del variants[ours]
    variants |= {f"{ours}, K nearest experts": PFedMoAP(), f"{ours}, random experts": PFedMoAP(expert_choice="random"),
                 f"{ours}, the averaged prompt as expert": PFedMoAP(expert_choice="global"),
                 f"{ours}, no experts (K = 0)": PFedMoAP(experts=0), f"{ours}, no gate": PFedMoAP(gate="none")}
    federation = prepare(experiment, place, clients=[]).federation  # no image is read
    sizes = federation.sizes(range(experiment.clients))
    found = {title: needs(method, federation.context, sizes) for title, method in variants.items()}
    return pd.DataFrame({"its server needs": found}).rename_axis("method")


def price_grid(profile: str = "quick", seeds: Sequence[int] | None = None, **overrides: Any) -> Grid:
    """pFedMoAP as it is, and as secure aggregation leaves it; the first two rows are runs of Table 6."""
    rows = [Row("K nearest experts (each upload)", PFedMoAP()),
            Row("the averaged prompt as expert (the sum)", PFedMoAP(expert_choice="global")),
            Row("no experts, K = 0 (the sum)", PFedMoAP(experts=0)),
            Row("no gate, own prompt (the sum)", PFedMoAP(gate="none"))]
    columns = [Column(title, STAND_INS[title][profile != "paper"]) for title in SETS]
    return build_grid(PRICE, profile, rows, columns, seeds, None, overrides)


def price(grid: Grid, store: Store) -> pd.DataFrame:
    """Accuracy in percent by row and column, and the difference from the first row, paired by seed.

    Returns:
        Columns experts, data, seeds, accuracy, std, difference (points), difference_std.
    """
    first, lines = grid.rows[0].title, []
    for (row, column), runs in grid.cells.items():
        own, plain = (pd.Series([100 * store.get(run)["accuracy"] for run in cell])
                      for cell in (runs, grid.cells[first, column]))
        data = dict(zip([each.title for each in grid.columns], grid.headings(), strict=True))[column]
        lines.append({"experts": row, "data": data, "seeds": len(runs), "accuracy": own.mean(), "std": own.std(ddof=0),
                      "difference": (own - plain).mean(), "difference_std": (own - plain).std(ddof=0)})
    return pd.DataFrame(lines)


def sums_table(needed: pd.DataFrame, grid: Grid, store: Store) -> Table:
    """What each method's server needs, and what pFedMoAP loses without K nearest experts."""
    paid = price(grid, store)
    text = paid.assign(text=[f"{one.accuracy:.1f} ± {one.std:.1f} ({one.difference:+.1f} ± {one.difference_std:.1f})"
                             for one in paid.itertuples()])
    wide = text.pivot(index="experts", columns="data", values="text")
    wide = wide.loc[[row.title for row in grid.rows], list(dict.fromkeys(text["data"]))]
    blocks = [Block(heading, block.rename_axis(index=None, columns=None), block.isna() & False) for heading, block in (
        ("What the server needs of the uploads, found by running it with and without them", needed),
        ("pFedMoAP, accuracy in percent (points against K nearest experts, paired by seed)", wide))]
    seeds = sorted({one.seed for one in grid})
    embedded = " Embedded CLIP and data: no evidence about others." * (grid.profile != "paper")
    return Table(f"Secure aggregation: the server sees the sum of a round's weighted uploads, and no upload. Mean ± "
                 f"population standard deviation over seeds. Profile {grid.profile}, {len(seeds)} "
                 f"seed{'s' * (len(seeds) > 1)} ({', '.join(map(str, seeds))}).{embedded} Not shown: the protocol "
                 f"itself, its traffic, and clients that drop out of it.", tuple(blocks))


def sums_reading(needed: pd.DataFrame, grid: Grid, store: Store) -> str:
    """Who can do without uploads, and the price of it for pFedMoAP."""
    by = {need: list(own.index) for need, own in needed.groupby("its server needs", sort=False)}
    lines = [f"- {', '.join(by[ENOUGH])}: the sum is enough.", f"- {', '.join(by[EACH])}: each upload is needed."]
    for data, own in price(grid, store).groupby("data", sort=False):
        first, *others = own.itertuples()
        told = "; ".join(f"{one.experts} {one.accuracy:.1f} % ({one.difference:+.1f} points)" for one in others)
        lines.append(f"- **{data}**: {first.experts} {first.accuracy:.1f} %; {told}.")
    return "\n".join(lines)


def write_sums(needed: pd.DataFrame, grid: Grid, store: Store, folder: str | Path) -> None:
    """Writes privacy_sums.csv, privacy_sums_price.csv and privacy_sums.md."""
    write_frame(needed.reset_index(), folder, "privacy_sums")
    write_frame(price(grid, store), folder, "privacy_sums_price")
    write_atomically(Path(folder) / "privacy_sums.md", sums_table(needed, grid, store).to_markdown().encode())
