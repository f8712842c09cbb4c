"""Figures show what the records say, in the same colours everywhere."""

import json
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image
from reporting import make_grid, make_record, make_store

from pfedmoap.data import ImageSet, Partition, Split
from pfedmoap.experiments import from_profile, table1
from pfedmoap.methods import METHODS, CoOp, PFedMoAP
from pfedmoap.reports import claims, figures

OURS = "pFedMoAP (λ = 0.5)"
OF_A_GRID = (figures.accuracy_bars, figures.accuracy_by_round, figures.accuracy_by_cost, figures.client_spread,
             figures.rank_diagram, figures.traffic)


@pytest.fixture(params=["quick", "paper"])
def filled(request, tmp_path):
    grid = make_grid(request.param)
    return grid, make_store(tmp_path, grid)


@pytest.fixture
def records():
    return [json.loads(json.dumps(make_record(from_profile("nature", method), [0.5, 0.9])))
            for method in (CoOp(), PFedMoAP())]


def labels(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_figures_are_returned_closed_and_written_whole(filled, tmp_path):
    for draw in OF_A_GRID:
        paths = figures.write_figure(draw(*filled), tmp_path / "figures", draw.__name__)
        assert [path.suffix for path in paths] == [".png", ".pdf"]
        assert paths[1].read_bytes().startswith(b"%PDF")
        with Image.open(paths[0]) as image:
            assert np.asarray(image.convert("L")).std() > 5  # not an empty page
    assert plt.get_fignums() == []


def test_the_same_figure_gives_the_same_files(filled, tmp_path):
    first, second = (figures.write_figure(figures.accuracy_bars(*filled), tmp_path / name, "x") for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_bars_are_the_means_and_published_values_only_beside_the_same_data(filled):
    grid, store = filled
    figure = figures.accuracy_bars(grid, store)
    axes = figure.axes[0]
    heights = sorted(round(bar.get_height(), 6) for bar in axes.patches)
    assert heights == [40, 60, 80, 80, 85, 95]
    assert ("published" in labels(figure)) == (grid.profile == "paper")
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == (["Flowers102", "DTD"] if grid.profile == "paper" else ["nature", "digits"])


def test_one_seed_has_no_error_bars(tmp_path):
    grid = make_grid(seeds=(1,))
    assert not figures.accuracy_bars(grid, make_store(tmp_path, grid)).axes[0].collections


def test_curves_and_worst_clients(filled):
    curves = figures.accuracy_by_round(*filled)
    line = next(line for line in curves.axes[0].lines if line.get_label() == "CoOp")
    assert line.get_ydata().tolist() == pytest.approx([40, 80])
    spread = figures.client_spread(*filled)
    worst = [line for line in spread.axes[0].lines if line.get_marker() == "v"]
    assert sorted(worst[1].get_xdata()) == pytest.approx([60, 80])  # CoOp on the first set
    assert labels(spread) == ["mean over clients and seeds", "worst client of a seed"]


def test_ranks_and_what_cannot_be_told_apart(tmp_path):
    grid = make_grid(seeds=range(1, 7))
    figure = figures.rank_diagram(grid, make_store(tmp_path, grid))
    (axes,) = figure.axes
    # pFedMoAP: first on nature; on digits 2, 1, 2, 1, 2, 1 by seed (CoOp the other way round): 1.25. ZS-CLIP: last.
    assert {text.get_text() for text in axes.texts} == {f"{OURS}  1.2", "CoOp  1.8", "3.0  ZS-CLIP"}
    assert "6 seeds" in axes.get_title()
    bars = [line for line in axes.lines if line.get_linewidth() == 4]
    assert bars == []  # on the mean over both sets every seed says the same
    few = make_grid(seeds=(1, 2))
    axes = figures.rank_diagram(few, make_store(tmp_path / "few", few)).axes[0]
    (bar,) = [line for line in axes.lines if line.get_linewidth() == 4]
    assert bar.get_xdata()[0] < 1.6 and bar.get_xdata()[1] > 2.9  # two seeds tell nothing apart


def test_claims_as_a_picture():
    def verdict(name, number, here):
        return claims.Verdict(name, "kit", "", "", "verified", here, "", number, number - 1, number + 1, "points", 0.03,
                              None, "")

    unmeasured = replace(verdict("c", 1.0, "holds"), low=None, high=None)
    figure = figures.forest([verdict("a", 3.0, "holds"), verdict("b", -2.0, "fails"), unmeasured])
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b"]
    assert sorted(labels(figure)) == ["fails", "holds"]
    points = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert points == [3.0, -2.0]
    assert figures.forest([unmeasured]).axes[0].get_yticklabels() == []


def test_one_method_has_one_colour(filled, records):
    colors = figures.row_colors(filled[0])
    assert to_hex(colors["CoOp"]) == figures.COLORS["coop"] and to_hex(colors[OURS]) == figures.COLORS["pfedmoap"]
    assert figures.client_bars(records).axes[0].patches[0].get_facecolor()[:3] == colors["CoOp"]
    assert len({figures.COLORS[name] for name in METHODS}) == len(METHODS)
    every = figures.row_colors(table1())
    assert len(set(every.values())) == len(every) and every[OURS] == colors[OURS]


def test_figures_of_one_run(records, tmp_path):
    curves = figures.learning_curves(records[1])
    assert labels(curves) == ["one client", "mean over clients"]
    assert curves.axes[0].lines[-1].get_ydata().tolist() == [3, 1.5]
    assert curves.axes[1].lines[-1].get_ydata().tolist() == pytest.approx([35, 70])
    assert labels(figures.client_bars(records)) == ["CoOp (mean 70.0 %)", "pFedMoAP (mean 70.0 %)"]
    traffic = figures.run_traffic(records[1])
    assert [bar.get_height() for bar in traffic.axes[0].patches] == [1, 3, 1, 1]
    for number, figure in enumerate((curves, traffic)):
        assert figures.write_figure(figure, tmp_path, str(number))[0].stat().st_size > 1000


def test_partition_and_images():
    images = [Image.new("RGB", (8, 8), (index * 20, 0, 0)) for index in range(6)]
    split = Split(images, np.array([0, 0, 1, 1, 2, 2]))
    imageset = ImageSet("x", ("a", "b", "sea lion"), split, split, "", "")
    train, test = (np.array([4, 5]), np.array([0, 1, 2])), (np.array([4]), np.array([0]))
    shares = Partition(train, test, *([split.labels[own] for own in part] for part in (train, test)))
    heatmap = figures.partition_heatmap(shares, imageset).axes[0]
    assert [label.get_text() for label in heatmap.get_xticklabels()] == ["sea lion", "a", "b"]
    assert heatmap.collections[0].get_array().reshape(2, 3).tolist() == [[2, 0, 0], [0, 2, 1]]
    titles = [axes.get_title() for axes in figures.image_samples(imageset, 2).axes]
    assert titles == ["a", "sea\nlion"]
