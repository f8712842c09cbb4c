"""The report of a profile: what is on the page, from files alone, and that the page is sound."""

import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from reporting import ROWS, make_grid, make_store

from pfedmoap.commands.app import main
from pfedmoap.errors import UserError
from pfedmoap.experiments import GRIDS
from pfedmoap.reports import page, tables, without_folders
from pfedmoap.reports.page import collected, together

VOID = {"meta", "link", "img", "br", "hr"}


class Page(HTMLParser):
    """What the tests ask of a page; `problems` has what no page may have."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.ids, self.links, self.pictures, self.problems, self.text = [], [], [], [], [], ""
        self.feed(text)
        self.problems += [f"<{tag}> is never closed" for tag in self.open]
        self.problems += [f"#{name} is there twice" for name in set(self.ids) if self.ids.count(name) > 1]
        self.problems += [f"{link} leads nowhere" for link in self.links if link[1:] not in self.ids]

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids += [found["id"]] if "id" in found else []
        if tag not in VOID:
            self.open.append(tag)
        if tag == "a":
            self.links.append(found["href"])
        if tag == "img":
            self.pictures.append(found["alt"])
        if tag == "th" and not found.get("scope"):
            self.problems.append("<th> without scope")
        for name in ("src", "href", "style"):
            if re.search(r"//|url\(", (found.get(name) or "").partition(";base64,")[0]):
                self.problems.append(f"{tag} needs {found[name][:60]}")
        if found.get("aria-labelledby", f"{found.get('id')}-title") != f"{found.get('id')}-title":
            self.problems.append(f"{tag} is labelled by nothing")

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes something else")

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data


def one(profile="quick"):
    """Table 1: by hand."""
    return make_grid(profile)


@pytest.fixture
def grids(monkeypatch):
    """Of the paper's tables only the first two, and the first small enough to be worked out by hand."""
    for name in list(GRIDS)[2:]:
        monkeypatch.delitem(GRIDS, name)
    monkeypatch.setitem(GRIDS, "table1", one)
    return GRIDS


@pytest.fixture
def folders(tmp_path, grids):
    """Table 1's files and two figures; Table 2 is missing."""
    grid = make_grid()
    results, figures = tmp_path / "results", tmp_path / "figures"
    tables.write_table(grid, make_store(tmp_path / "records", grid, notes=["a < b & c"]), results)
    draw(figures, "table1", "table1_clients")
    return results, figures


def draw(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        Image.new("RGBA", (40, 20), (0, 120, 80, 128)).save(folder / f"{name}.png")


def change(folder: Path, **facts) -> None:
    path = folder / "table1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


# --- the page


def test_the_page_is_sound_and_needs_nothing_else(folders):
    text = page.build("quick", *folders)
    found = Page(text)
    assert found.problems == [] and "http" not in text
    assert {"#overview", "#table1", "#table2", "#rests-on", "#gaps"} <= set(found.links)
    assert len(found.pictures) == text.count("data:image/png;base64,") == 2
    assert found.pictures[0] == "Table 1: accuracy of the methods" and "every client" in found.pictures[1]


def test_the_papers_numbers_stand_beside_those_that_were_run(folders):
    text = page.build("quick", *folders)
    for fact in ("Caltech101, some of them redrawn", "<u>95.00 ± 0.00</u>", "98.41 ± 0.04", "80.00 ± 10.00",
                 "not to be compared"):
        assert fact in text, fact
    assert text.index('<tbody class="run">') < text.index('<tbody class="published">')
    assert '<th scope="col">nature</th>' in text and '<th scope="col">Flowers102</th>' in text
    assert "A &lt; b &amp; c." in text
    assert "has a higher mean than the best other method on 1 of 2 columns" in Page(text).text


def test_the_same_files_give_the_same_page(folders):
    assert page.build("quick", *folders) == page.build("quick", *folders)


def test_lines_of_the_paper_profile_stand_under_their_methods(tmp_path, grids):
    grid = make_grid("paper")
    tables.write_table(grid, make_store(tmp_path / "records", grid), tmp_path)
    text = page.build("paper", tmp_path, tmp_path)
    assert text.count('<tr class="under published"><th scope="row">published</th>') == 3
    assert '<tr class="under difference"><th scope="row">difference</th><td>-3.41 (-85.2 σ)</td>' in text
    assert Page(text).problems == []


def test_controls_come_after_the_published_numbers(tmp_path, grids):
    grid = make_grid(rows=(*ROWS[1:], replace(ROWS[0], control=True)))
    tables.write_table(grid, make_store(tmp_path / "records", grid), tmp_path)
    text = page.build("quick", tmp_path, tmp_path)
    assert re.findall(r'<tbody class="(\w+)">', text)[:3] == ["run", "published", "controls"]


def test_names_are_escaped(folders):
    name = "<script>alert('x')</script>"
    table = json.loads((folders[0] / "table1.json").read_text())["table"]
    table["blocks"][0]["rows"][0] = table["blocks"][0]["heading"] = name
    change(folders[0], table=table, missing={name: name}, commit=name, reading=[name])
    text = page.build("quick", *folders)
    assert name not in text and text.count("&lt;script&gt;") >= 6 and Page(text).problems == []


def test_an_empty_folder_gives_a_page_that_says_how_to_fill_it(tmp_path):
    text = page.build("smoke", tmp_path / "none", tmp_path / "none")
    found = Page(text)
    assert found.problems == [] and found.pictures == []
    assert "there is no table" in found.text
    assert f"pfedmoap reproduce {' '.join(GRIDS)} --profile smoke" in " ".join(found.text.split())


def test_what_the_other_notebooks_wrote(folders):
    results, figures = folders
    (results / "start_here.csv").write_text("method,accuracy\n" + "<b>,1.50\n" * 61)
    draw(figures, "start_here_curves", "table1_uneven")
    found = Page(page.build("quick", *folders))
    assert found.problems == [] and "Start here" in found.text and "1.50" in found.text
    assert "1 more lines are in start_here.csv" in found.text
    assert [alt for alt in found.pictures if "notebook" in alt] == [
        "Figure of a notebook: Start here curves", "Figure of a notebook: Table1 uneven"]


def test_an_unknown_profile_is_refused(tmp_path):
    with pytest.raises(UserError, match="did you mean 'quick'"):
        page.build("qick", tmp_path, tmp_path)


# --- what is there


def test_up_to_date_and_missing(folders):
    first, second = page.collect("quick", *folders)
    assert (first.state, first.why, first.seconds) == (collected.CURRENT, "", 36)
    assert list(first.figures.values()) == [folders[1] / "table1.png", folders[1] / "table1_clients.png"]
    assert (second.state, second.command) == (collected.MISSING, "pfedmoap reproduce table2")


@pytest.mark.parametrize("content, why", [
    ("{", "cannot be read"), ("[]", "earlier version"), ('{"grid": "0"}', "earlier version")])
def test_a_damaged_or_old_file_counts_as_missing(folders, content, why):
    (folders[0] / "table1.json").write_text(content)
    first = page.collect("quick", *folders)[0]
    assert first.state == collected.MISSING and why in first.why and first.figures == {}


@pytest.mark.parametrize("facts", [
    {"reading": "text"}, {"reading": [1]}, {"seeds": [None]}, {"seeds": [True]}, {"runs": "x"}, {"missing": []},
    {"seconds_by_run": {"a": "x"}}, {"seconds_by_run": {"a": 10**400}}, {"versions": ["x"]}, {"table": []},
    {"table": {"caption": "", "blocks": [{}]}}, {"commit": 7}, {"machines": None}], ids=str)
def test_a_file_of_another_form_counts_as_missing(folders, facts):
    change(folders[0], **facts)
    first = page.collect("quick", *folders)[0]
    assert first.state == collected.MISSING and "is damaged" in first.why
    page.build("quick", *folders)


@pytest.mark.parametrize("spoil", [
    lambda block: block["cells"].pop(), lambda block: block["cells"][0].pop(), lambda block: block["bold"][0].pop(),
    lambda block: block.update(kind="other"), lambda block: block["rows"].append("x"),
    lambda block: block.pop("heading"),
    lambda block: block["cells"][0].__setitem__(0, 7), lambda block: block.update(cells={})])
def test_a_table_of_another_shape_counts_as_missing(folders, spoil):
    table = json.loads((folders[0] / "table1.json").read_text())["table"]
    spoil(table["blocks"][0])
    change(folders[0], table=table)
    assert "is damaged" in page.collect("quick", *folders)[0].why


def test_tables_figures_and_verdicts_that_cannot_be_read_are_named(folders):
    results, figures = folders
    for path, content in ((results / "others.csv", b""), (results / "others.csv", b'a\n"x'),
                          (results / "others.csv", "größe\n".encode("latin-1")), (results / "claims.json", b"[{}]"),
                          (results / "claims.json", b"[" * 100_000), (figures / "others.png", b"<svg>")):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"{path.name} (cannot be read|does not hold)"):
            page.build("quick", *folders)
        path.unlink()


def test_names_of_files_are_escaped_in_markdown(folders):
    (folders[0] / "a](b) <b>.csv").write_text("a\n1\n")
    text = page.overview("quick", *folders)
    assert r"[a\](b) &lt;b>.csv](a%5D%28b%29%20%3Cb%3E.csv)" in text


def test_other_runs_than_the_grids_are_out_of_date(folders):
    change(folders[0], grid="0123456789abcdef")
    assert [entry.state for entry in page.collect("quick", *folders)] == [collected.OUTDATED, collected.MISSING]
    text = Page(page.build("quick", *folders)).text
    assert "Out of date" in text and "made with other runs" in text and "95.00 ± 0.00" in text


def test_columns_without_data_are_missing_but_the_table_is_not_out_of_date(tmp_path, grids):
    grid = make_grid()
    store = make_store(tmp_path / "records", grid, source="/home/ada/data/x, 50/20/30 %, not CoOp's split")
    tables.write_table(grid.without({"DTD": "DTD was not found under /home/ada/data."}), store, tmp_path)
    text = Page(page.build("quick", tmp_path, tmp_path)).text
    assert "Table 1, DTD: DTD was not found under data. Run" in " ".join(text.split())
    assert "x, 50/20/30 %, not CoOp's split" in text and "/ada/" not in text
    assert page.collect("quick", tmp_path, tmp_path)[0].state == collected.CURRENT


@pytest.mark.parametrize("text, shown", [
    ("/home/ada/data/dtd, 50/20/30 % per class", "dtd, 50/20/30 % per class"),
    ("not found under ~/sets (looked for dtd/images)", "not found under sets (looked for dtd/images)"),
    (r"C:\Users\ada\sets is no folder", "sets is no folder"), ("d/32 and/or 70/30 %", "d/32 and/or 70/30 %")])
def test_absolute_paths_are_cut_to_their_last_name(text, shown):
    assert without_folders(text) == shown


# --- all of them together


def test_a_run_in_two_tables_counts_once(folders):
    first = page.collect("quick", *folders)[0]
    assert together.totals([first, first]) == (12, 36)


def test_what_the_tables_rest_on(folders):
    change(folders[0], commit="abc+", devices=["cpu"], machines=["x86_64, 2 cores"], versions=[{"torch": "2"}])
    found = dict(together.rests_on(page.collect("quick", *folders)))
    assert found["commit"] == [("abc, with changes that were not committed", "all")]
    assert found["versions"] == [("torch 2", "all")] and found["machine"] == [("x86_64, 2 cores", "all")]
    assert found["seeds"] == [("1, 2", "all")] and "CLIP" not in found


@pytest.mark.parametrize("seconds, shown", [(0, "0 s"), (59.6, "1 min 0 s"), (185, "3 min 5 s"), (7830, "2 h 10 min")])
def test_duration(seconds, shown):
    assert together.duration(seconds) == shown


# --- Markdown and the command


def test_markdown_has_what_was_run_and_links_that_lead_somewhere(folders):
    results, figures = folders
    text = page.overview("quick", results, figures)
    assert "<ins>95.00 ± 0.00</ins>" in text and "98.41" not in text and "Missing**: there is no file" in text
    links = re.findall(r"\]\(([^#)]+)\)", text)
    assert "../figures/table1_clients.png" in links and [link for link in links if not (results / link).exists()] == []
    anchor = re.search(r"\(#(table-1[^)]*)\)", text).group(1)
    assert anchor == "table-1-by-hand" and "## Table 1: by hand" in text


def test_the_command_writes_page_and_markdown(folders, tmp_path, capsys):
    results, figures = folders
    arguments = ["report", "--results", str(results), "--figures", str(figures)]
    for out, more in ((results / "report.html", []), (tmp_path / "x.html", ["--out", str(tmp_path / "x.html")])):
        with pytest.raises(SystemExit) as left:
            main(arguments + more)
        said = capsys.readouterr()
        assert left.value.code == 0 and said.out.split() == [str(out), str(results / "README.md")]
        assert "1 up to date, 1 missing" in said.err and "Table 2 is missing" in said.err
        assert Page(out.read_text()).problems == [] and os.path.getsize(out) < 10**6


def test_the_command_refuses_an_unknown_profile(capsys):
    with pytest.raises(SystemExit) as left:
        main(["report", "--profile", "qick"])
    assert left.value.code == 2 and "did you mean 'quick'" in capsys.readouterr().err
