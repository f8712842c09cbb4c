"""Numbers, captions, sentences and files of a table, against figures worked out by hand (see `reporting`)."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from reporting import ROWS, make_grid, make_record, make_store

from pfedmoap.errors import UserError
from pfedmoap.experiments import Row, Store, table4
from pfedmoap.methods import ClassMeans
from pfedmoap.reports import captions, numbers, tables
from pfedmoap.reports.layout import Block, Table, latex, markdown

OURS = "pFedMoAP (λ = 0.5)"


def cell(frame, row, column):
    return frame.set_index(["row", "column"]).loc[(row, column)]


# --- numbers


def test_cells_of_single_runs(quick):
    cells = numbers.cells(*quick)
    assert len(cells) == 3 * 2 * 2
    first = cells.query("row == 'CoOp' and column == 'DTD' and seed == 1").iloc[0]
    assert first["accuracy"] == pytest.approx(80) and first["worst_client"] == pytest.approx(70)
    assert first["accuracy_last5"] == pytest.approx(60)
    assert first["bytes_up"] == 1024 and first["bytes_down"] == (1024 + 3072) / 2
    assert first["seconds"] == 3


def test_mean_and_population_standard_deviation(quick):
    summary = numbers.summary(*quick)
    found = cell(summary, "CoOp", "Flowers102")  # 70 and 90
    assert found["mean"] == pytest.approx(80) and found["std"] == pytest.approx(10) and found["seeds"] == 2
    assert found["worst_client"] == pytest.approx(70)  # 60 and 80
    assert cell(summary, "ZS-CLIP", "Flowers102")["std"] == pytest.approx(0)
    assert list(summary["row"].unique()) == [row.title for row in ROWS]


def test_clients_and_rounds(quick):
    clients = numbers.clients(*quick)
    assert len(clients) == 3 * 2 * 2 * 2
    assert clients.query("row == @OURS and column == 'Flowers102' and seed == 1")["accuracy"].tolist() == [90, 100]
    rounds = numbers.rounds(*quick)
    coop = rounds.query("row == 'CoOp' and column == 'DTD' and seed == 2")
    assert coop["accuracy"].tolist() == pytest.approx([45, 90])


def test_differences_only_where_the_data_are_the_papers(quick, paper):
    assert numbers.summary(*quick)["difference"].isna().all()
    found = cell(numbers.summary(*paper), OURS, "Flowers102")
    assert (found["published_mean"], found["published_std"]) == (98.41, 0.04)
    assert found["difference"] == pytest.approx(95 - 98.41)


def test_a_client_that_took_no_part_counts_for_no_bytes(tmp_path):
    grid = make_grid(seeds=(1,))
    store = make_store(tmp_path, grid)
    for item in grid:
        record = store.get(item)
        record["rounds"] = [entry | {"bytes_up": {}, "bytes_down": {}, "losses": {}} for entry in record["rounds"]]
        store.put(item, record)
    assert (numbers.cells(grid, store)[["bytes_up", "bytes_down"]] == 0).all(axis=None)


def test_missing_runs_are_counted_and_the_remedy_named(tmp_path):
    grid = make_grid()
    store = Store(tmp_path)
    first = next(iter(grid))
    store.put(first, make_record(first, [0.5, 0.5]))
    with pytest.raises(UserError, match=r"11 of 12 runs of table1 \(quick\).*pfedmoap reproduce"):
        tables.table(grid, store)


# --- the table


def test_cells_and_the_best_of_a_column_where_seeds_are_too_few_to_separate(quick):
    here, there = tables.table(*quick).blocks
    assert here.text.loc["CoOp"].tolist() == ["80.00 ± 10.00", "85.00 ± 5.00"]
    assert not here.bold.any(axis=None)
    assert here.underlined["nature"].tolist() == [False, False, True]
    assert here.underlined["digits"].tolist() == [False, True, False]
    assert "underlined: best of a column, which 2 seeds cannot tell from the others" in captions.caption(*quick)
    assert there.text.loc[OURS].tolist() == ["98.41 ± 0.04", "89.13 ± 0.54"]


def test_bold_is_better_than_every_other_row_and_underlined_cannot_be_told_from_the_best(tmp_path):
    grid = make_grid(seeds=range(1, 7))
    store = make_store(tmp_path, grid)
    shown = tables.table(grid, store)
    here, there = shown.blocks
    assert here.bold["nature"].tolist() == [False, False, True] and not here.underlined["nature"].any()
    assert not here.bold["digits"].any() and here.underlined["digits"].tolist() == [False, True, True]
    assert there.bold.loc[OURS].all() and there.underlined is None  # as published
    assert "**92.50 ± 1.71**" in shown.to_markdown() and "<ins>80.17 ± 2.91</ins>" in shown.to_markdown()
    assert "<u>80.17 ± 2.91</u>" in shown._repr_html_() and r"\underline{80.17 $\pm$ 2.91}" in shown.to_latex()
    assert shown.to_dict()["blocks"][0]["underlined"] == [[False, False], [False, True], [False, True]]
    assert "bold: best of a column, by the exact sign-flip test" in shown.caption


def test_equal_means_are_all_underlined(tmp_path):
    rows = (ROWS[1], replace(ROWS[1], title="the same"))
    grid = make_grid(rows=rows[:1])
    store = make_store(tmp_path, grid)
    twice = {(row.title, column.title): grid.cells["CoOp", column.title] for row in rows for column in grid.columns}
    block = tables.table(replace(grid, rows=rows, cells=twice), store).blocks[0]
    assert block.underlined.all(axis=None) and not block.bold.any(axis=None)


def test_stand_ins_are_never_called_by_the_papers_names(quick):
    here, there = tables.table(*quick).blocks
    assert list(here.text) == ["nature", "digits"] and list(there.text) == ["Flowers102", "DTD"]
    assert "not to be compared" in there.heading


def test_published_lines_stand_under_reproduced_ones(paper):
    (block,) = tables.table(*paper).blocks
    assert list(block.text) == ["Flowers102", "DTD"]
    assert list(block.text.index[:3]) == ["ZS-CLIP", "ZS-CLIP: published", "ZS-CLIP: difference"]
    assert block.text.loc["CoOp: published", "DTD"] == "44.23 ± 0.63"
    assert block.text.loc["CoOp: difference", "DTD"] == "+40.77 (+64.7 σ)"
    assert block.text.loc[f"{OURS}: difference", "Flowers102"] == "-3.41 (-85.2 σ)"
    assert block.underlined.loc[OURS, "Flowers102"] and not block.underlined.loc[f"{OURS}: published"].any()


def test_one_seed_has_no_spread(tmp_path):
    grid = make_grid(seeds=(7,))
    shown = tables.table(grid, make_store(tmp_path, grid))
    assert shown.blocks[0].text.loc["CoOp"].tolist() == ["70.00", "80.00"]
    assert "one seed (7), so no spread" in shown.caption


# --- files


def test_csv_has_one_line_per_cell(quick, tmp_path):
    csv, markdown, tex, facts, _ = tables.write_table(*quick, tmp_path / "new" / "folder")
    data = pd.read_csv(csv)
    assert len(data) == 6 and (data["table"] == "table1").all() and (data["profile"] == "quick").all()
    assert list(data)[:7] == ["table", "profile", "method", "column", "dataset", "mean", "std"]
    line = data.query("method == 'CoOp' and dataset == 'digits'").iloc[0]
    assert (line["column"], line["mean"], line["std"], line["seeds"]) == ("DTD", 85, 5, 2)
    assert "published_mean" not in data  # other data: not on the same line
    assert markdown.name == "table1.md" and tex.name == "table1.tex"
    known = json.loads(facts.read_text())
    assert known["grid"] == tables.fingerprint(quick[0]) and known["runs"] == 12 and known["seeds"] == [1, 2]
    assert known["seconds"] == 36 and known["missing"] == {}
    assert list(known["seconds_by_run"].values()) == 12 * [3]
    assert known["table"] == tables.table(*quick).to_dict() and known["table"]["blocks"][1]["kind"] == "published"


def test_csv_of_the_clients_is_what_the_table_is_made_of(quick, tmp_path):
    csv, *_, each = tables.write_table(*quick, tmp_path)
    data = pd.read_csv(each)
    assert each.name == "table1_clients.csv" and len(data) == 3 * 2 * 2 * 2
    means = data.groupby(["row", "column", "seed"])["accuracy"].mean().groupby(["row", "column"]).mean()
    cells = pd.read_csv(csv).set_index(["method", "column"])["mean"]
    assert means.to_dict() == pytest.approx(cells.to_dict(), abs=1e-3)
    coop = data.query("row == 'CoOp' and column == 'DTD' and seed == 2")  # 45 % after round 1, 90 % after round 2
    assert coop["accuracy_best"].mean() == pytest.approx(90) and coop["accuracy_last5"].mean() == pytest.approx(67.5)


def test_csv_of_the_clients_leaves_out_averages_and_numbers_clients_as_the_run_does(tmp_path):
    grid = table4("quick", seeds=[1], methods=["zero_shot"])
    store = Store(tmp_path)
    for item in grid:
        store.put(item, make_record(item, [0.1 * client for client in range(8)]))
    data = pd.read_csv(tables.write_table(grid, store, tmp_path)[-1]).query("row == 'ZS-CLIP'")
    owners = {column: own["client"].tolist() for column, own in data.groupby("column")}
    assert owners == {"Amazon": [0, 1], "Webcam": [2, 3], "Caltech": [4, 5], "DSLR": [6, 7]}
    assert data["accuracy"].tolist() == pytest.approx((10 * data["client"]).tolist())


def test_csv_of_the_paper_profile_has_the_published_cells(paper, tmp_path):
    data = pd.read_csv(tables.write_table(*paper, tmp_path)[0])
    line = data.query("method == 'CoOp' and dataset == 'dtd'").iloc[0]
    assert (line["published_mean"], line["published_std"], line["difference"]) == (44.23, 0.63, 40.77)


def test_markdown(quick):
    text = tables.table(*quick).to_markdown()
    assert text.startswith("Table 1, profile quick")
    assert "<ins>95.00 ± 0.00</ins>" in text and "<ins>85.00 ± 5.00</ins>" in text and "<ins>80.00" not in text


def test_latex_is_a_tabular_with_every_line_complete(quick, paper):
    for grid, store in (quick, paper):
        lines = tables.table(grid, store).to_latex().splitlines()
        assert lines[0].startswith("% Table 1") and lines[1] == r"\begin{tabular}{lcc}"
        assert lines[-2:] == [r"\bottomrule", r"\end{tabular}"]
        cells = [line for line in lines[2:-2] if "&" in line]
        assert all(line.count("&") == 2 and line.endswith(r"\\") for line in cells)
        assert any(line.startswith(r"pFedMoAP ($\lambda$ = 0.5) & \underline{95.00 $\pm$ 0.00} &") for line in cells)
        assert not any("±" in line or "λ" in line for line in lines[1:])


def test_latex_escapes():
    assert latex("a_b & 50 % of $x #1 {y}") == r"a\_b \& 50 \% of \$x \#1 \{y\}"
    assert latex("~ ^ \\ λ ± ×") == r"\textasciitilde{} \textasciicircum{} \textbackslash{} $\lambda$ $\pm$ $\times$"


HOSTILE = "<script>x</script>\n\\input{a} [x](javascript:y) | z\x1b"


def test_names_make_nothing_of_their_own_in_latex_markdown_and_html():
    text = pd.DataFrame({HOSTILE: [HOSTILE, "1"]}, index=[HOSTILE, "b"])
    made = Table(HOSTILE, (Block(HOSTILE, text, text.eq("1")),))
    first, *lines = made.to_latex().splitlines()
    assert first.startswith("% <script>x</script> \\input{a}") and lines[0] == r"\begin{tabular}{lc}"
    assert "\\input" not in "".join(lines) and all(line.count("&") == 1 for line in lines if "script" in line
                                                  and "multicolumn" not in line)
    for shown in (made.to_markdown(), made._repr_html_()):
        assert "<script>" not in shown and "[x](" not in made.to_markdown() and "\x1b" not in made.to_markdown()
    assert all(line.replace(r"\|", "").count("|") == 3 for line in made.to_markdown().splitlines() if line[:1] == "|")


def test_markdown_leaves_numbers_and_comparisons_as_they_are():
    text = "p < 0.05, 84.0 ± 1.2 %, [95 %: 1 to 2], 2 * 3, a_b"
    assert markdown(text) == text


def test_html_is_escaped_and_bold(tmp_path):
    rows = (replace(ROWS[1], title="CoOp"), ROWS[2])
    grid = make_grid(rows=rows)
    shown = tables.table(grid, make_store(tmp_path, grid, notes=["a < b & c"]))
    text = shown._repr_html_()
    assert "A &lt; b &amp; c." in text and "<u>95.00 ± 0.00</u>" in text and "<u>80.00" not in text
    assert repr(shown) == shown.to_markdown()


def test_traffic_is_per_client_and_round_and_in_total(tmp_path):
    grid = make_grid()
    table = numbers.traffic(grid, make_store(tmp_path, grid))
    assert list(table.index) == [row.title for row in grid.rows]
    assert (table["bytes_up"] == 1024).all() and (table["bytes_down"] == 2048).all()  # 1024, then 3072
    assert (table["total"] == 2 * (1024 + 1024) + 2 * (1024 + 3072)).all()


def test_plain_classifiers_have_a_block_of_their_own_and_are_tested_too(tmp_path):
    plain = Row("Class means", ClassMeans(), control=True)
    grid = make_grid(seeds=range(1, 7), rows=(*ROWS[1:], plain))
    store = make_store(tmp_path, replace(grid, cells={cell: runs for cell, runs in grid.cells.items()
                                                      if cell[0] != plain.title}))
    for column in grid.columns:
        for item in grid.cells[plain.title, column.title]:
            store.put(item, make_record(item, [1.0, 1.0]))
    _, classifiers, _ = tables.table(grid, store).blocks
    assert classifiers.kind == "classifiers" and list(classifiers.text.index) == ["Class means"]
    assert classifiers.heading.startswith("Plain classifiers") and not classifiers.bold.any(axis=None)
    text = tables.reading(grid, store)
    assert "it is behind Class means (-13.7, " in text and "Plain classifiers: Class means 100.0 %." in text
    assert "Controls" not in text
    rounds = captions.caption(grid, store).partition("rounds ")[2]
    assert "Class means" not in rounds  # which it does not have


def test_controls_stand_apart_and_are_never_bold(tmp_path):
    rows = (ROWS[1], ROWS[2], replace(ROWS[0], control=True))
    grid = make_grid(rows=rows)
    store = make_store(tmp_path, grid)
    methods, controls, _ = tables.table(grid, store).blocks
    assert list(methods.text.index) == ["CoOp", "pFedMoAP (λ = 0.5)"] and list(controls.text.index) == ["ZS-CLIP"]
    assert not controls.bold.to_numpy().any() and controls.heading.startswith("Controls")
    text = tables.reading(grid, store)
    assert "Controls: ZS-CLIP 50.0 %." in text and "ZS-CLIP" not in text.split("Controls")[0]
