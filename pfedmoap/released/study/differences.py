"""How far each switch alone moves the accuracies from those under the paper's protocol, seed by seed."""

import pandas as pd

from pfedmoap.experiments import Grid, Row, Store
from pfedmoap.released.protocol import PAPER, SWITCHES
from pfedmoap.released.study.switchboard import SWITCHED, touches
from pfedmoap.reports import cells, title_of


def title(grid: Grid) -> str:
    """Such as "Table 3: domains"."""
    return f"{title_of(grid)}: {grid.columns[0].stand_in}"


def name(row: Row) -> str:
    """What a row's method is called: shorter than in the tables for the methods that every switch is run for."""
    return row.method.title if row.method in SWITCHED else row.released or row.title


def accuracies(grid: Grid, store: Store) -> pd.DataFrame:
    """Accuracies in percent, one line per seed; columns (protocol, method).

    A protocol is called as `str` calls it: "paper", a switch, switches with commas between, or "released".
    """
    wide = cells(grid, store).pivot(index="seed", columns="row", values="accuracy")[[row.title for row in grid.rows]]
    names = [(str(row.settings.get("protocol", PAPER)), name(row)) for row in grid.rows]
    return wide.set_axis(pd.MultiIndex.from_tuples(names, names=["protocol", "method"]), axis=1)


def differences(grid: Grid, store: Store) -> pd.DataFrame:
    """One line per method and protocol that was run.

    Returns:
        Columns method, protocol, seeds; mean and std of the accuracy in percent; difference and spread: of the
        accuracy less the same seed's under the paper's protocol. Standard deviations are the population's, over seeds.
    """
    wide = accuracies(grid, store)
    lines = []
    for protocol, method in wide:
        here = wide[protocol, method]
        off = here - wide["paper", method]
        lines.append({"method": method, "protocol": protocol, "seeds": len(here), "mean": here.mean(),
                      "std": here.std(ddof=0), "difference": off.mean(), "spread": off.std(ddof=0)})
    return pd.DataFrame(lines)


def square(grid: Grid, store: Store, what: str) -> pd.DataFrame:
    """One column of `differences` as protocols by the methods that every switch is run for.

    Missing where a protocol cannot touch a method, whose accuracy is then that under the paper's protocol.
    """
    frame = differences(grid, store)
    columns = [name(row) for row in grid.rows if not row.released and row.method in SWITCHED]
    there = list(frame["protocol"].unique())
    order = [known for known in ("paper", *SWITCHES) if known in there]
    order += sorted((other for other in there if other not in order), key="released".__eq__)  # that one last
    return frame.pivot(index="protocol", columns="method", values=what).loc[order, columns]


def idle(grid: Grid) -> list[str]:
    """The switches that can touch none of the grid's runs."""
    return [switch for switch in SWITCHES if not any(touches(switch, run) for run in grid)]
