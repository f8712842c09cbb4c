"""The committed results of the quick profile: made by the committed grids and the shipped CLIP, and complete."""

import json

import pandas as pd
import pytest

from pfedmoap.experiments import GRIDS
from pfedmoap.reports import fingerprint
from pfedmoap.system.paths import ROOT

RESULTS, FIGURES = ROOT / "results" / "quick", ROOT / "figures" / "quick"
REMEDY = "make reproduce ARGS=--force, and commit results/quick and figures/quick"


@pytest.mark.parametrize("name", GRIDS)
def test_results_are_of_the_committed_grid(name):
    grid = GRIDS[name]("quick")
    facts = json.loads((RESULTS / f"{name}.json").read_text())
    assert facts["grid"] == fingerprint(grid), f"results/quick/{name}.* are of another grid or CLIP: {REMEDY}"
    assert facts["runs"] == len(list(grid)) and facts["missing"] == {}


@pytest.mark.parametrize("name", GRIDS)
def test_every_cell_and_file_is_there(name):
    grid = GRIDS[name]("quick")
    cells = pd.read_csv(RESULTS / f"{name}.csv")
    assert list(zip(cells["method"], cells["column"], strict=True)) == list(grid.cells)
    assert cells["mean"].between(0, 100).all() and (cells["seeds"] == 3).all()
    for path in (RESULTS / f"{name}.md", RESULTS / f"{name}.tex", FIGURES / f"{name}.png", FIGURES / f"{name}.pdf"):
        assert path.stat().st_size > 0, REMEDY
