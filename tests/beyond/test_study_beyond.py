"""The study of `06_beyond_the_paper`: its grids, and that tables, figures and sentences say what the records have."""

import numpy as np
import pandas as pd
import pytest

from pfedmoap.beyond import harmonic_mean, study
from pfedmoap.beyond.study import readings
from pfedmoap.errors import UserError
from pfedmoap.experiments import Place, Store, run_all
from pfedmoap.methods import METHODS
from pfedmoap.reports import Table

FEW = ("zero_shot", "promptfl", "pfedmoap", "class_means")
MOAP = "pFedMoAP (λ = 0.5)"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The smoke grids of four methods and two seeds, run."""
    grids = study.grids("smoke", seeds=[1, 2], methods=FEW)
    store = Store(tmp_path_factory.mktemp("records"))
    run_all([run for grid in grids.values() for run in grid], store=store, jobs=1, progress=False)
    return grids, store


def block(table: Table, heading: str) -> pd.DataFrame:
    (found,) = [part for part in table.blocks if part.heading == heading]
    return found.text


def test_grids_ask_three_questions_of_all_methods():
    grids = study.grids("quick")
    assert {row.method.name for row in grids[study.BASE_NEW].rows} == set(METHODS)
    assert {run.evaluate for run in grids[study.UNSEEN]} == {
        f"unseen_domain:{name}" for name in ("product", "webcam", "grayscale", "wallpaper")}
    assert {run.evaluate for run in grids[study.NEW_CLIENTS]} == {"new_clients:0.3"}
    assert {run.partition for run in grids[study.NEW_CLIENTS]} == {"label_disjoint", "dirichlet"}
    assert all(run.clients == 15 for run in grids[study.UNSEEN])  # five of each of the three that train
    paper = study.grids("paper")
    assert {run.dataset for run in paper[study.UNSEEN]} == {"office_caltech10"}
    assert len(paper[study.BASE_NEW].columns) == 5


def test_what_cannot_be_asked():
    with pytest.raises(UserError, match="leave out evaluate"):
        study.grids("smoke", evaluate="local")
    with pytest.raises(UserError, match="did you mean 'pfedmoap'"):
        study.grids("smoke", methods=["pfedmoab"])
    with pytest.raises(UserError, match="read from disk"):
        study.here(study.grids("paper", seeds=[1], methods=["zero_shot"]), Place())


def test_cells_are_means_of_the_records(made):
    grids, store = made
    grid = grids[study.BASE_NEW]
    found = [store.get(run)["beyond"]["accuracies"] for run in grid.cells[MOAP, "OxfordPets"]]
    new = [100 * np.mean(each["new"]) for each in found]
    shown = block(study.base_new_table(grid, store), "animals")
    assert shown.loc[MOAP, "new"] == f"{np.mean(new):.1f} ± {np.std(new):.1f}"
    h = [harmonic_mean([100 * np.mean(each[part]) for part in ("local", "base", "new")]) for each in found]
    assert shown.loc[MOAP, "H"] == f"{np.mean(h):.1f} ± {np.std(h):.1f}"
    plain = block(study.base_new_table(grid, store), "animals: plain classifiers")
    assert plain.loc["Class means", "new"] == "0.0 ± 0.0"


def test_the_gates_worth_is_with_less_without(made):
    grids, store = made
    worth = study.gate_worth(grids[study.BASE_NEW], store)
    assert set(worth["row"]) <= {row.title for row in grids[study.BASE_NEW].rows if row.method.name == "pfedmoap"}
    own = worth[(worth["row"] == MOAP) & (worth["measure"] == "new")]
    for line in own.itertuples():
        (run,) = [run for run in grids[study.BASE_NEW].cells[MOAP, "OxfordPets"] if run.seed == line.seed]
        found = store.get(run)["beyond"]
        off = 100 * (np.mean(found["accuracies"]["new"]) - np.mean(found["without_gate"]["new"]))
        assert line.difference == pytest.approx(off)


def test_newcomers_are_shown_point_by_point(made):
    grids, store = made
    grid = grids[study.NEW_CLIENTS]
    shown = block(study.new_clients_table(grid, store), "animals, label_disjoint")
    (first, second) = [store.get(run)["beyond"] for run in grid.cells[MOAP, "OxfordPets"]]
    cold = [100 * np.mean(each["accuracies"]["cold"]) for each in (first, second)]
    again = [100 * np.mean(each["curves"]["experts"]["1"]) for each in (first, second)]
    assert shown.loc[MOAP, "cold"] == f"{np.mean(cold):.1f} ± {np.std(cold):.1f}"
    assert shown.loc[MOAP, "second participation, 1 epoch"] == f"{np.mean(again):.1f} ± {np.std(again):.1f}"
    assert shown.loc["PromptFL", "second participation, 1 epoch"] == "–"


def test_domains_and_their_mean(made):
    grids, store = made
    grid = grids[study.UNSEEN]
    shown = block(study.unseen_table(grid, store), "left out")
    runs = [grid.cells["PromptFL", column.title] for column in grid.columns]
    unseen = np.array([[100 * np.mean(store.get(run)["beyond"]["accuracies"]["unseen"]) for run in own]
                       for own in runs])  # (domains, seeds)
    assert shown.loc["PromptFL", "mean"] == f"{unseen.mean():.1f} ± {unseen.mean(0).std():.1f}"
    assert shown.loc["PromptFL", "webcam"] == f"{unseen[1].mean():.1f} ± {unseen[1].std():.1f}"


def test_the_best_method_is_underlined(made):
    grids, store = made
    table = study.base_new_table(grids[study.BASE_NEW], store)
    methods = table.blocks[0]
    means = methods.text["new"].map(lambda text: float(text.split()[0]))
    assert methods.underlined["new"].sum() == 1 and methods.underlined["new"].idxmax() == means.idxmax()
    assert not any(part.underlined.any(axis=None) for part in table.blocks[1:3])


def test_figures_show_what_the_numbers_are(made):
    grids, store = made
    numbers = study.summary(grids[study.BASE_NEW], store).set_index(["row", "measure"])["mean"]
    (panel,) = study.figures.base_against_new(grids[study.BASE_NEW], store).axes
    points = {bars.get_label(): bars.lines[0].get_xydata()[0] for bars in panel.containers}
    assert points[MOAP] == pytest.approx([numbers[MOAP, "base"], numbers[MOAP, "new"]])
    upper, lower = study.figures.cold_start(grids[study.NEW_CLIENTS], store).axes
    curve = next(line for line in upper.lines if line.get_label() == "PromptFL")
    assert curve.get_xdata().tolist() == [0, 1, 2] and lower.get_ylabel() == upper.get_ylabel()
    assert "--" in {line.get_linestyle() for line in upper.lines}  # pFedMoAP's second participation
    (axes,) = study.figures.domains_left_out(grids[study.UNSEEN], store).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [row.title for row in grids[study.UNSEEN].rows]


def test_sentences(made):
    grids, store = made
    text = readings.unseen_classes(grids[study.BASE_NEW], store)
    numbers = study.summary(grids[study.BASE_NEW], store).set_index(["row", "measure"])["mean"]
    assert f"ZS-CLIP, which learns nothing, has {numbers['ZS-CLIP', 'new']:.1f} % there" in text
    assert "What the gate adds" in text and "without experts" not in text  # methods, not controls
    assert "second" not in readings.domains(grids[study.UNSEEN], store)
    assert "Newcomers start between" in readings.newcomers(grids[study.NEW_CLIENTS], store)


@pytest.mark.parametrize("differences, says", [
    ([1.0, 2.0], "+1.5 points (above 0 in 2 of 2 seeds)"), ([-1.0, 0.5, -2.5], "-1.0 points (below 0 in 2 of 3 seeds)"),
    ([0.4], "+0.4 points (one seed)"), ([1, 2, 3, 4, 5, 6], "+3.5 points (p 0.031)"),
    ([0, 0], "+0.0 points (at 0 in 2 of 2"),
])  # fmt: skip
def test_differences_in_words(differences, says):
    assert readings._points(np.array(differences, dtype=float)).startswith(says)


def test_files(made, tmp_path):
    grids, store = made
    study.write(grids, store, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *(f"beyond_{name}.{ending}" for name in grids for ending in ("csv", "md")), "beyond_gate.csv",
        "beyond_curves.csv"}
    frame = pd.read_csv(tmp_path / "beyond_base_new.csv")
    pd.testing.assert_frame_equal(frame, study.measures(grids[study.BASE_NEW], store), check_exact=False)
