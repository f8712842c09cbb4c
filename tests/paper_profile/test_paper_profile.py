"""The profile `paper`, executed for real: every table and figure, on the nine sets in their real layouts and with CLIPs
of the real architectures, whose weights are random. Run it with `make paper-check`.

Everything is the paper's but the number of images, clients, rounds and epochs. What is the same in several tables is
run once, as the records and the image features are shared.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import nine_sets
import numpy as np
import open_clip
import pandas as pd
import papermill
import pytest
import torch

from pfedmoap.checkpoints import OPENAI_SCALARS
from pfedmoap.experiments import GRIDS, Grid, published_cells, selection
from pfedmoap.methods import PFedMoAP
from pfedmoap.system.paths import NOTEBOOKS

pytestmark = pytest.mark.paper_profile

DEVICE = os.environ.get("PFEDMOAP_DEVICE", "cpu")
# Two rounds, as clients join the gate when they take part a second time; one step per client and round.
SHORT = "rounds=2, local_epochs=1, views=1, batch_size=64"
RN50 = ("RN50-quickgelu", f"{SHORT}, clients=2")
DOMAINNET = ("ViT-B-16-quickgelu", f"{SHORT}, clients=12, participation=0.75")
RUNS = dict.fromkeys(GRIDS, RN50) | {
    "table2": ("RN50-quickgelu", f"{SHORT}, clients=3, participation=0.7"),
    "table3": DOMAINNET,
    "table4": ("ViT-B-16-quickgelu", f"{SHORT}, clients=8, participation=0.75"),
    "table7": DOMAINNET,
}  # model and settings


@dataclass(frozen=True)
class World:
    """A folder with everything that the profile `paper` needs, and with what it makes."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    def weights(self, model: str) -> Path:
        return self.root / f"random-{model}.pt"

    def grid(self, name: str) -> Grid:
        model, settings = RUNS[name]
        return GRIDS[name]("paper", **selection("1", settings=settings, weights=str(self.weights(model))))

    def execute(self, name: str) -> nbformat.NotebookNode:
        model, settings = RUNS[name]
        (path,) = NOTEBOOKS.glob(f"{name}_*.ipynb")
        places = {place: str(self.root / place) for place in ("results", "figures", "cache")}
        parameters = {"profile": "paper", "seeds": "1", "settings": settings, "weights": str(self.weights(model)),
                      "data_root": str(self.data), "device": DEVICE}
        return papermill.execute_notebook(path, self.root / path.name, parameters | places, kernel_name="python3",
                                          cwd=NOTEBOOKS, progress_bar=False)


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    world = World(tmp_path_factory.mktemp("paper_profile"))
    nine_sets.write_all(world.data)
    for model in ("RN50-quickgelu", "ViT-B-16-quickgelu"):
        torch.save(openai_state(model), world.weights(model))
    return world


def openai_state(model: str) -> dict[str, torch.Tensor]:
    """As OpenAI publishes them: half precision, and three numbers beside the weights."""
    torch.manual_seed(0)
    state = open_clip.create_model(model, pretrained_text=False).state_dict()
    state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    return state | dict(zip(OPENAI_SCALARS, map(torch.tensor, (224, 77, 49408)), strict=True))


@pytest.mark.parametrize("name", GRIDS)
def test_every_column_is_filled(world, name):
    executed = world.execute(name)
    grid, results = world.grid(name), world.root / "results"
    table = pd.read_csv(results / f"{name}.csv").set_index(["method", "column"])
    assert set(table.index) == set(grid.cells)
    assert table["mean"].between(0, 100).all() and (table["seeds"] == 1).all()
    assert json.loads((results / f"{name}.json").read_text())["missing"] == {}
    assert_beside_the_published(grid, table)
    assert_gates_were_used(grid, table)
    caption = (results / f"{name}.md").read_text()
    for departure in (r"clients \d+ \(paper: \d+", r"rounds 2 \(paper: \d+", r"local epochs 1 \(paper: 5\)",
                      r"weights random-\S+\.pt \(paper: openai\)"):
        assert re.search(departure, caption), departure
    assert_figures_written(executed, world.root / "figures")


def assert_beside_the_published(grid: Grid, table: pd.DataFrame) -> None:
    """Every published cell stands beside the one that was run, with the difference."""
    rows = {row.title: row.published for row in grid.rows}
    known = published_cells(grid.name).set_index(["method", "dataset"])["mean"] if any(rows.values()) else {}
    cells = [(row, column) for row, column in table.index if (rows[row], column) in known]
    assert bool(cells) == grid.name.startswith("table")
    for row, column in cells:
        cell = table.loc[row, column]
        assert cell["published_mean"] == known[rows[row], column]
        assert cell["difference"] == pytest.approx(cell["mean"] - cell["published_mean"], abs=1e-3)


def assert_gates_were_used(grid: Grid, table: pd.DataFrame) -> None:
    attentive = [row.title for row in grid.rows
                 if isinstance(row.method, PFedMoAP) and row.method.gate == "attention" and row.method.experts]
    entropies = table.loc[attentive, "attention_entropy"]
    assert len(entropies) and np.isfinite(entropies).all()


def assert_figures_written(executed: nbformat.NotebookNode, folder: Path) -> None:
    source = "\n".join(cell.source for cell in executed.cells if cell.cell_type == "code")
    names = re.findall(r'write_figure\(\w+, figures, "(\w+)"\)', source)
    assert len(names) >= 3
    for name in names:
        for ending in ("png", "pdf"):
            assert (folder / f"{name}.{ending}").stat().st_size > 5000, name
