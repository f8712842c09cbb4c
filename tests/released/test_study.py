"""The grids of `03_paper_and_code`, what a switch can touch, and the numbers, sentences and figures made of them."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from reporting import make_record

from pfedmoap.data import Partition
from pfedmoap.errors import UserError
from pfedmoap.experiments import GRIDS, Place, Store, first_reachable, from_profile, run
from pfedmoap.methods import CoOp, FedProx, PFedMoAP, PromptFL, ZeroShot, ZeroShotPrior
from pfedmoap.released import PAPER, RELEASED, SWITCHES, released, study
from pfedmoap.released.study import figures, switchboards
from pfedmoap.released.study.pattern import Step
from pfedmoap.released.study.switchboard import SWITCHED, TABLES, switchboard, touches
from pfedmoap.released.study.tables import source

# --- the grids


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("profile", ["quick", "paper"])
def test_runs_are_those_of_the_tables_wherever_they_have_them(table, profile):
    board, own = switchboard(table, profile), set(GRIDS[table](profile))
    assert {item for item in board if item.protocol == PAPER} <= own
    if table != "table1":  # which has no released rows
        assert {item for item in board if item.protocol == RELEASED and item.method != ZeroShotPrior()} <= own
    assert all(len(cell) == 3 for cell in board.cells.values())


def test_every_switch_stands_alone_wherever_it_can_touch_something_and_only_there():
    for table in TABLES:
        board = switchboard(table, "quick", seeds=[1])
        column = board.columns[0].title
        assert {column.dataset for column in board.columns} <= {"nature", "digits", "domains", "office"}
        for row in [row for row in board.rows if not row.released and row.method in SWITCHED]:
            (plain,) = board.cells[row.title, column]
            alone = {name for name in SWITCHES if (f"{row.title}, {name}", column) in board.cells}
            assert alone == {name for name in SWITCHES if touches(name, plain)}, row.title
            assert all(board.cells[f"{row.title}, {name}", column][0].protocol == released(name) for name in alone)


def test_boards_beside_the_tables():
    boards = switchboards("quick", seeds=[1])
    assert list(boards) == [*TABLES, "table1_uneven", "table3_long"]
    assert {item.clients for item in boards["table1_uneven"]} == {14}
    long = boards["table3_long"]
    assert {(item.method.name, item.rounds * item.local_epochs) for item in long if item.method.name != "coop"} == {
        (name, 125) for name in ("zero_shot", "zs_prior", "promptfl", "pfedmoap")}
    assert {item.rounds * item.local_epochs for item in long if item.method.name == "coop"} == {25}
    assert list(switchboards("paper")) == list(TABLES)
    titles = "CoOp", "CoOp, coop_epochs", "CoOp, released protocol"
    assert [boards["table2"].cells[title, "CIFAR10"][0].rounds for title in titles] == [4, 1, 1]
    few = switchboards("quick", ["table3"], ["optimizer"], methods=["fedprox"], rounds=3)
    assert list(few) == ["table3"] and {item.rounds for item in few["table3"]} == {3}
    assert [row.title for row in few["table3"].rows] == [
        "Prompt+FedProx", "Prompt+FedProx, optimizer", "Prompt+FedProx, released protocol"]
    for wrong in ({"tables": ["table5"]}, {"switches": ["optimiser"]}, {"methods": ["fedotp"]}):
        with pytest.raises(UserError, match="switch|table|method"):
            switchboards("quick", **wrong)


def test_the_first_data_set_that_is_there_is_enough():
    boards = {"real": switchboard("table1", "paper"), "embedded": switchboard("table1", "quick")}
    found, reasons = first_reachable(boards)
    assert list(found) == ["embedded"] and list(reasons) == ["real"] and "--data-root" in reasons["real"]
    assert [column.title for column in found["embedded"].columns] == ["Flowers102"]
    with pytest.raises(UserError, match="data-root"):
        first_reachable({"real": boards["real"]})


# --- what a switch cannot touch


@pytest.fixture(scope="module")
def score(features_cache):
    """Every client's accuracies of a tiny run, after each round."""
    place, known = Place(cache=features_cache), {}

    def of(dataset, method, protocol=PAPER):
        item = from_profile(dataset, method, "smoke", protocol=protocol)
        if item not in known:
            known[item] = np.array([entry["accuracies"] for entry in run(item, place, progress=False)["rounds"]])
        return known[item]

    return of


@pytest.mark.parametrize(("dataset", "method", "switches"), [
    ("nature", ZeroShot(), ["optimizer", "prompt_init", "precision", "expert_selection", "round_order"]),
    ("nature", PromptFL(), ["expert_selection", "fedprox_gradient", "coop_epochs", "label_pairing", "class_names"]),
    ("nature", PFedMoAP(), ["label_pairing", "class_names", "fedprox_gradient", "cifar_preprocess"]),
    ("domains", CoOp(), ["expert_selection", "class_deal", "cifar_preprocess", "fedprox_gradient"]),
], ids=lambda value: value.name if hasattr(value, "name") else None)
def test_what_a_switch_cannot_touch_is_the_same_to_the_last_bit(score, dataset, method, switches):
    item = from_profile(dataset, method, "smoke")
    assert not any(touches(name, item) for name in switches)
    np.testing.assert_array_equal(score(dataset, method, released(*switches)), score(dataset, method))


def test_the_order_of_clients_touches_methods_without_a_pool_by_rounding_only(score):
    for method in (PromptFL(), CoOp(), FedProx()):
        assert not touches("round_order", from_profile("nature", method, "smoke"))
        np.testing.assert_allclose(score("nature", method, released("round_order")), score("nature", method),
                                   atol=0.051)  # an image of 20 may fall on the other side


def test_what_a_switch_touches_can_change(score):
    for dataset, method, name in (("domains", ZeroShot(), "label_pairing"), ("domains", ZeroShot(), "class_names"),
                                  ("nature", PFedMoAP(), "data_seed"), ("domains", CoOp(), "optimizer")):
        assert touches(name, from_profile(dataset, method, "smoke"))
        assert not np.array_equal(score(dataset, method, released(name)), score(dataset, method))


# --- numbers by hand


METHODS = ["zero_shot", "promptfl", "coop", "pfedmoap"]
# protocol -> method -> accuracy in percent, per seed
BY_HAND = {
    "paper": {"zero_shot": (60, 60), "promptfl": (62, 64), "coop": (70, 74), "pfedmoap": (80, 80)},
    "label_pairing": {"zero_shot": (9, 11), "promptfl": (20, 24), "coop": (30, 36), "pfedmoap": (35, 37)},
    "optimizer": {"promptfl": (61, 65), "coop": (68, 70), "pfedmoap": (80, 84)},
    "released": {"zero_shot": (10, 10), "promptfl": (9, 11), "coop": (30, 30), "pfedmoap": (29, 33)},
}


@pytest.fixture
def filled(tmp_path):
    """Table 3's board with two switches, both pFedMoAP variants alike."""
    boards = {"table3": switchboard("table3", "quick", ["label_pairing", "optimizer"], [1, 2], METHODS)}
    store = Store(tmp_path)
    for item in boards["table3"]:
        value = BY_HAND[str(item.protocol)][item.method.name][item.seed - 1] / 100
        store.put(item, make_record(item, [value - 0.05, value + 0.05], classes=10))
    return boards, store


def test_differences_are_taken_seed_by_seed(filled):
    boards, store = filled
    frame = study.differences(boards["table3"], store).set_index(["protocol", "method"])
    coop = frame.loc["optimizer", "CoOp"]  # 70, 74 -> 68, 70: -2 and -4
    assert (coop["seeds"], round(coop["mean"], 6), round(coop["std"], 6)) == (2, 69, 1)
    assert coop["difference"] == pytest.approx(-3) and coop["spread"] == pytest.approx(1)
    ours = frame.loc["label_pairing", "pFedMoAP"]  # -45 and -43
    assert ours["difference"] == pytest.approx(-44) and ours["spread"] == pytest.approx(1)
    assert (frame.loc["paper", "difference"] == 0).all()
    square = study.square(boards["table3"], store, "difference")
    assert list(square.index) == ["paper", "label_pairing", "optimizer", "released"]
    assert list(square.columns) == ["ZS-CLIP", "PromptFL", "CoOp", "pFedMoAP"]
    assert square.isna().to_numpy().nonzero() == ([2], [0])  # zero-shot has no optimiser


def test_the_table_marks_what_is_identical_and_what_is_beyond_the_spread(filled):
    boards, store = filled
    table = study.difference_table(boards["table3"], store)
    change = table.blocks[1]
    assert change.text.at["optimizer", "ZS-CLIP"] == "="
    assert change.text.at["optimizer", "CoOp"] == "-3.00 ± 1.00" and change.bold.at["optimizer", "CoOp"]
    assert change.text.at["optimizer", "PromptFL"] == "+0.00 ± 1.00" and not change.bold.at["optimizer", "PromptFL"]
    assert "2 seeds (1, 2)" in table.caption and "cifar_preprocess" in table.caption
    assert "`optimizer` (CoOp -3.0)" in study.reading(boards["table3"], store)


def accuracy(*seeds):
    return pd.DataFrame(seeds, columns=["zero", "low", "middle", "high"])


@pytest.mark.parametrize(("seeds", "said"), [
    ([(10, 24, 37, 39), (9, 25, 36, 39)], "yes, in each seed and by more than the spread"),
    ([(10, 24, 37, 39)], "yes, but one seed shows no spread"),
    ([(60, 64, 67, 69), (62, 65, 70, 72)], "no: zero is not at chance"),
    ([(10, 24, 39, 37), (11, 24, 40, 37)], "no: high is not above middle"),
    ([(10, 9, 8, 37), (11, 9, 9, 37)], "no: low is not above zero, middle is not above low"),
    ([(10, 24, 37, 36), (10, 24, 37, 42)], "in the mean, but not firmly: high above middle (in 1 of 2 seeds)"),
])
def test_the_verdict_on_the_published_pattern(seeds, said):
    assert study.verdict(accuracy(*seeds), 10) == said


def test_steps_by_hand():
    first, *_, last = study.steps(accuracy((10, 20, 30, 35), (10, 24, 30, 29)))
    assert first == Step("zero", "low", 12, 2, 2, 2) and str(first) == "+12.0 ± 2.0" and first.firm
    assert last == Step("middle", "high", 2, 3, 1, 2) and not last.firm


def test_where_a_published_difference_comes_from():
    up, down, unsure = Step("a", "b", 3, 1, 2, 2), Step("a", "b", -3, 1, 0, 2), Step("a", "b", 3, 4, 1, 2)
    assert source(up, up, up) == "both" and source(down, down, down) == "both"
    assert source(up, up, down) == "the paper's only" and source(up, unsure, up) == "the released code's only"
    assert source(down, up, unsure) == "neither" and source(unsure, up, up) == "published within its spread"
    assert not Step("a", "b", 1e-13, 0, 2, 2).firm  # rounding


def test_tables_and_sentences_about_the_labels(filled):
    boards, store = filled
    (block,) = study.order_table(boards, store).blocks
    mixed_up = block.text.loc["label_pairing; pFedMoAP"]
    assert mixed_up.tolist() == ["+0.0 ± 1.0", "+12.0 ± 1.0", "+11.0 ± 1.0", "+3.0 ± 2.0",
                                 "yes, in each seed and by more than the spread"]
    assert block.text.at["paper's protocol; pFedMoAP", "published pattern?"] == "no: ZS-CLIP is not at chance"
    (block,) = study.accuracy_table(boards, store).blocks
    assert block.text.at["label_pairing", "CoOp"] == "33.00 ± 3.00"
    assert block.text.at["published, other data", "CoOp"] == "36.99 ± 0.79"
    said = study.answer(boards, store)
    assert "zero-shot scores 10.0 ± 1.0 %, at chance (10 %)" in said
    assert "CoOp above PromptFL by 11.0 ± 1.0 (in 2 of 2 seeds, more than the spread)" in said
    (block,) = study.origin_table(boards, store).blocks
    assert block.text.loc["CoOp − PromptFL"].tolist() == [
        "+12.5 ± 12.5", "+9.0 ± 1.0", "+20.0 ± 1.0", "published within its spread"]
    assert block.text.at["PromptFL − ZS-CLIP", "as published under"] == "the paper's only"
    lost = "not with all switches together:** PromptFL above ZS-CLIP (Table 3: domains)"
    assert lost in study.origins(boards, store)


def test_the_most_frequent_label_by_hand():
    train, test = (np.array([2, 2, 1]), np.array([0])), (np.array([2, 1, 1, 2]), np.array([1, 0, 1, 1]))
    counted = study.most_frequent_label(Partition(train, test, train, test))
    assert counted == pytest.approx(100 * (2 / 4 + 1 / 4) / 2)


# --- figures


def test_the_heat_map_shows_the_differences(filled):
    boards, store = filled
    figure = figures.difference_heatmap(boards, store)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[:4] == ["-50.0", "-41.0", "-39.0", "-44.0"]
    assert texts[4:] == ["=", "+0.0", "-3.0", "+2.0", "-50.0", "-53.0", "-42.0", "-49.0"]
    norm = figure.axes[0].collections[0].norm
    assert norm.vmin == -norm.vmax == pytest.approx(-53) and norm(0) == pytest.approx(0.5)


def test_the_bars_show_every_protocol_and_the_published_row_apart(filled):
    boards, store = filled
    here, there = figures.label_bars(boards, store).axes
    heights = [round(bar.get_height(), 2) for bar in here.patches]
    assert len(heights) == 3 * 5 and heights[:3] == [60, 10, 10]  # zero-shot: paper, label_pairing, released
    assert [round(bar.get_height(), 2) for bar in there.patches] == [9.81, 24.48, 36.99, 38.80]
    assert "no set with domains" in figures.label_bars({}, store).axes[0].get_title()


def test_samples_say_what_the_images_show():
    imageset, matched, mispaired = study.pairings({})
    figure = figures.label_samples(imageset, matched, mispaired, client=1, count=6)
    above, below = np.reshape(figure.axes, (2, 6))
    assert all(to_hex(panel.title.get_color()) == "#000000" and not panel.get_xlabel() for panel in above)
    wrong = [panel for panel in below if to_hex(panel.title.get_color()) != "#000000"]
    assert wrong and all(panel.get_xlabel() not in ("", f"shows: {panel.get_title()}") for panel in wrong)
    assert plt.get_fignums() == []


def test_the_schedule_is_the_shared_one():
    heights = [bar.get_height() for bar in figures.shared_schedule().axes[0].patches]
    assert len(heights) == 40 and heights[0] == 1e-5
    assert [round(value, 5) for value in heights[5:15]] == [
        0.00019, 0, 0.00019, 0.00069, 0.00131, 0.00181, 0.002, 0.00181, 0.00131, 0.00069]
