"""The committed results, made by the committed grids and the shipped CLIP, and complete."""

import json

import pandas as pd
import pytest

from pfedmoap.experiments import GRIDS, SEEDS
from pfedmoap.reports import fingerprint
from pfedmoap.system.paths import ROOT

PROFILES = ("quick", "long")
REMEDY = "make reproduce PROFILE={0} ARGS=--force, and commit results/{0} and figures/{0}"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", GRIDS)
def test_results_are_of_the_committed_grid(profile, name):
    grid = GRIDS[name](profile)
    facts = json.loads((ROOT / "results" / profile / f"{name}.json").read_text())
    remedy = REMEDY.format(profile)
    assert facts["grid"] == fingerprint(grid), f"results/{profile}/{name}.* are of another grid or CLIP: {remedy}"
    assert facts["runs"] == len(list(grid)) and facts["missing"] == {}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", GRIDS)
def test_every_cell_and_file_is_there(profile, name):
    grid, results, figures = GRIDS[name](profile), ROOT / "results" / profile, ROOT / "figures" / profile
    cells = pd.read_csv(results / f"{name}.csv")
    assert list(zip(cells["method"], cells["column"], strict=True)) == list(grid.cells)
    assert cells["mean"].between(0, 100).all() and (cells["seeds"] == len(SEEDS[profile])).all()
    for path in (results / f"{name}.md", results / f"{name}.tex", figures / f"{name}.png", figures / f"{name}.pdf"):
        assert path.stat().st_size > 0, REMEDY.format(profile)


@pytest.mark.parametrize("name", GRIDS)
def test_clients_of_the_long_profile_give_the_means_of_its_tables(name):
    results = ROOT / "results" / "long"
    each = pd.read_csv(results / f"{name}_clients.csv")
    means = each.groupby(["row", "column", "seed"])["accuracy"].mean().groupby(["row", "column"]).mean()
    cells = pd.read_csv(results / f"{name}.csv").set_index(["method", "column"])["mean"]
    assert means.to_dict() == pytest.approx(cells[means.index].to_dict(), abs=1e-3)
