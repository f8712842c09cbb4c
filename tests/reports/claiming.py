"""Two claims and a folder of results made by hand, for the tests of claims."""

from pathlib import Path

import pandas as pd
from reporting import make_grid, make_store

from pfedmoap.experiments import GRIDS
from pfedmoap.reports import claims, tables
from pfedmoap.reports.claims import Claim, Evidence
from pfedmoap.system import ROOT

OURS = "pFedMoAP (λ = 0.5)"
LONG = ROOT / "results" / "long"
AHEAD_OF_COOP = Claim("ahead", "kit", "a test", "It is ahead of CoOp.", "contrast", ("quick",),
                      {"grid": "table1", "rows": {OURS: 1, "CoOp": -1}, "at_least": 0})
AGREES = Claim("agrees", "kit", "a test", "The files agree.", "agrees", (), {"grids": ["table1"]})


def write_results(folder, monkeypatch, seeds=range(1, 7), profile="quick"):
    def build(profile, seeds=seeds):
        """Table 1: made by hand."""
        return make_grid(profile, seeds)

    monkeypatch.setitem(GRIDS, "table1", build)
    grid = make_grid(profile, seeds)
    tables.write_table(grid, make_store(folder / "records", grid), folder)
    return folder


def judged(claim, results, profile="quick", **more) -> claims.Verdict:
    (verdict,) = claims.judge([claim], Evidence(profile, results, **more), progress=False)
    return verdict


def rerun(results, folder, change) -> Path:
    """The same tables with the CSV's cell of CoOp on Flowers102 changed by so many points."""
    folder.mkdir()
    table = pd.read_csv(results / "table1.csv")
    table.loc[(table["method"] == "CoOp") & (table["column"] == "Flowers102"), "mean"] += change
    table.to_csv(folder / "table1.csv", index=False)
    return folder
