"""The published numbers as data: complete, as printed, and consistent with one another and with the paper's text."""

import pandas as pd
import pytest

from pfedmoap.experiments import GRIDS, published_cells
from pfedmoap.system.paths import PUBLISHED

CLIP_SETS = ["Flowers102", "OxfordPets", "Food101", "Caltech101", "DTD"]
DOMAINS = ["Clipart", "Infograph", "Painting", "Quickdraw", "Real", "Sketch", "Average"]
SHAPES = {  # table -> rows, columns
    "table1": (11, CLIP_SETS), "table2": (5, ["CIFAR10", "CIFAR100"]), "table3": (5, DOMAINS),
    "table4": (5, ["Amazon", "Caltech", "DSLR", "Webcam", "Average"]), "table5": (9, CLIP_SETS),
    "table6": (4, CLIP_SETS), "table7": (6, DOMAINS), "table8": (6, CLIP_SETS)}


def row(table: str, method: str) -> list[tuple[float, float]]:
    cells = published_cells(table).query("method == @method")
    return list(zip(cells["mean"], cells["std"], strict=True))


def mean(table: str, method: str, dataset: str) -> float:
    return published_cells(table).query("method == @method and dataset == @dataset")["mean"].item()


@pytest.mark.parametrize("table", SHAPES)
def test_every_cell_is_there_once_with_two_decimals(table):
    rows, columns = SHAPES[table]
    cells = pd.read_csv(PUBLISHED / f"{table}.csv", dtype=str)
    assert list(cells) == ["table", "dataset", "method", "setting", "mean", "std"]
    assert (cells["table"] == table).all() and cells["setting"].str.len().all()
    assert list(cells["dataset"].unique()) == columns
    assert cells["method"].nunique() == rows and len(cells) == rows * len(columns)
    assert not cells.duplicated(["dataset", "method"]).any()
    assert cells["mean"].str.fullmatch(r"\d\d?\.\d\d").all() and cells["std"].str.fullmatch(r"\d\d?\.\d\d").all()


@pytest.mark.parametrize(("table", "method", "dataset", "cell"), [
    ("table1", "ZS-CLIP", "Flowers102", (62.17, 0.12)),
    ("table1", "Prompt+FedAMP", "OxfordPets", (80.21, 0.44)),
    ("table1", "pFedMoAP (lambda=0.0)", "Caltech101", (95.71, 0.37)),
    ("table1", "pFedMoAP (lambda=0.5)", "DTD", (89.13, 0.54)),
    ("table2", "ZS-CLIP", "CIFAR100", (32.68, 0.00)),
    ("table2", "pFedMoAP", "CIFAR10", (83.46, 0.53)),
    ("table3", "PromptFL", "Infograph", (27.69, 18.07)),
    ("table4", "pFedMoAP", "DSLR", (45.11, 3.14)),
    ("table5", "pFedMoAP (epsilon=50)", "DTD", (89.99, 0.49)),
    ("table5", "Prompt+FedProx (epsilon=25)", "Caltech101", (84.51, 1.52)),
    ("table6", "Linear projection-based (10 experts)", "OxfordPets", (52.78, 6.88)),
    ("table7", "pFedMoAP (K+1=30)", "Average", (38.85, 0.43)),
    ("table8", "pFedMoAP (d=1024)", "Food101", (89.20, 0.37)),
])
def test_cells_as_printed(table, method, dataset, cell):
    found = published_cells(table).query("method == @method and dataset == @dataset")
    assert (found["mean"].item(), found["std"].item()) == cell


def test_rows_that_the_paper_prints_twice_are_equal():
    default = row("table1", "pFedMoAP (lambda=0.5)")
    assert row("table3", "pFedMoAP") == row("table7", "pFedMoAP (K+1=20)")
    assert row("table8", "pFedMoAP (d=128)") == default
    assert row("table6", "Attention-based, without aggregation (ours)") == default
    assert row("table5", "pFedMoAP (no privacy)") == default
    for method in ("PromptFL", "Prompt+FedProx"):
        assert row("table5", f"{method} (no privacy)") == row("table1", method)


@pytest.mark.parametrize("table", ["table3", "table4", "table7"])
def test_averages_are_the_means_of_their_domains(table):
    cells = published_cells(table).pivot(index="method", columns="dataset", values="mean")
    assert (cells.drop(columns="Average").mean(axis=1) - cells["Average"]).abs().max() < 0.006


def test_differences_that_the_text_names():
    ours = mean("table1", "pFedMoAP (lambda=0.5)", "Flowers102")
    assert round(ours - mean("table1", "FedOTP", "Flowers102"), 2) == 2.18
    assert round(ours - mean("table1", "pFedPrompt", "Flowers102"), 2) == 11.95
    assert round(mean("table3", "CoOp", "Average") - mean("table3", "PromptFL", "Average"), 2) == 12.51
    assert round(mean("table4", "CoOp", "Average") - mean("table4", "PromptFL", "Average"), 2) == 8.96
    assert round(mean("table4", "pFedMoAP", "Average") - mean("table4", "CoOp", "Average"), 2) == 5.94


@pytest.mark.parametrize("name", SHAPES)
def test_the_grids_find_their_published_rows(name):
    known = published_cells(name)
    grid = GRIDS[name]("paper")
    assert {column.title for column in grid.columns} == set(known["dataset"])
    assert {row.published for row in grid.rows if row.published} == set(known["method"])


def test_settings_are_the_rows_own():
    settings = {table: published_cells(table).groupby("method")["setting"].first() for table in SHAPES}
    for table in SHAPES:
        assert (published_cells(table).groupby("method")["setting"].nunique() == 1).all()
    assert "lambda=5.0, K=19" in settings["table3"]["pFedMoAP"]
    assert "lambda=5.0, K=4" in settings["table7"]["pFedMoAP (K+1=5)"]
    assert "epsilon=25" in settings["table5"]["PromptFL (epsilon=25)"]
    assert "d=32" in settings["table8"]["pFedMoAP (d=32)"] and "4.2K" in settings["table8"]["pFedMoAP (d=32)"]
    assert settings["table4"]["CoOp"].startswith("N=20") and "ViT-B/16" in settings["table4"]["CoOp"]
