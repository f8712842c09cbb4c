"""The book: its settings load, every table leads to all that belongs to it, and the whole is built where Sphinx is."""

import re
import runpy
import tomllib
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlparse

import linked
import make_book
import pytest
import staging

from pfedmoap.experiments import GRIDS
from pfedmoap.reports.claims import read_ledger
from pfedmoap.system.paths import NOTEBOOKS, ROOT

BOOK = ROOT / "docs" / "book"
PAGES = linked.pages()
LOCAL = ("href", "src")


def test_the_settings_load_and_name_files_that_are_there():
    settings = runpy.run_path(str(BOOK / "conf.py"))
    assert all((BOOK / name).is_file() for name in settings["html_static_path"])
    needed = {"myst_nb": "myst-nb", "sphinx-mathjax-offline": "sphinx-mathjax-offline", settings["html_theme"]: "furo"}
    assert needed.keys() <= {*settings["extensions"], settings["html_theme"]}
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["book"]
    assert {requirement.partition("==")[0] for requirement in extra} == {"sphinx", *needed.values()}
    assert settings["nb_execution_mode"] == "off"  # what it shows was executed by the kit itself


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.profile}-{page.name}")
def test_a_table_leads_to_its_notebook_its_numbers_and_its_claims(page):
    lines = "\n".join(page.lines())
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", lines)]
    present = [link for link in links if link != "../../claims.md"]  # which is made with the book
    assert [link for link in present if not (page.path.parent / link).is_file()] == []
    assert "/notebooks/" in lines or page.name == "tuned"
    if page.name in GRIDS:
        assert {*linked.ENDINGS.values(), "CSV of every client and seed"} == page.files.keys()
        assert page.figures and page.figures[0].name == f"{page.name}.png"
    assert all(f"#claim-{claim.id})" in lines for claim in page.claims)


def test_every_committed_number_and_claim_is_in_the_book():
    assert {page.name for page in PAGES if page.profile == "quick"} >= set(GRIDS)
    named = {claim.id for page in PAGES for claim in page.claims}
    assert {claim.id for claim in read_ledger() if linked.grids_of(claim)} == named
    text = linked.claims()
    assert [claim.id for claim in read_ledger() if text.count(f"(claim-{claim.id})=") != 1] == []
    anchors = {f"{page.path.parent.name}/{page.path.name}" for page in PAGES}
    assert set(re.findall(r"\(results/([\w/]+\.md)\)", text)) <= anchors


def test_links_of_a_page_hold_in_the_book(tmp_path):
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text("[it](../README.md) [folder](../results/benchmarks) [file](../NOTICE) [web](https://example.org/a)")
    staging.mend_links(page, tmp_path)
    assert page.read_text() == "[it](../index.md) folder [file](../NOTICE) [web](https://example.org/a)"
    assert (tmp_path / "NOTICE").read_bytes() == (ROOT / "NOTICE").read_bytes()


class Links(HTMLParser):
    """What a page links to and loads."""

    def __init__(self, page: Path):
        super().__init__()
        self.found: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given["id"]} if given.get("id") else set()
        self.found |= {given[name] for name in LOCAL if given.get(name)}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    if missing := [name for name in ("sphinx", "myst_nb", "furo") if not find_spec(name)]:
        pytest.skip(f"{', '.join(missing)} is not installed: make book installs the extra `book`")
    folder = tmp_path_factory.mktemp("book")
    assert make_book.build(folder, ["-W", "--keep-going"]) == 0  # no warning
    return folder / "html"


def test_the_book_has_all_pages_and_every_link_in_it_leads_somewhere(site):
    pages = {path: Links(path) for path in site.rglob("*.html")}
    names = {path.relative_to(site).with_suffix("").as_posix() for path in pages}
    notebooks = {f"notebooks/{path.stem}" for path in NOTEBOOKS.glob("*.ipynb")}
    tables = {f"results/{page.profile}/{page.name}" for page in PAGES}
    assert notebooks | tables | {"index", "claims", "search", "ARTIFACT", "docs/claims", "api/pfedmoap"} <= names
    broken = []
    for path, page in pages.items():
        for link in page.found:
            parts = urlparse(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not parts.scheme and not (target.is_file() and (
                    not parts.fragment or target not in pages or unquote(parts.fragment) in pages[target].anchors)):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []


def test_the_book_asks_no_other_machine_and_has_what_readers_need(site):
    assert list(make_book.requests(site)) == []
    text = (site / "notebooks" / "01_method_step_by_step.html").read_text()
    assert "mathjax/tex-chtml.js" in text and (site / "_static" / "mathjax" / "tex-chtml.js").is_file()
    assert text.count("<summary>Solution</summary>") == 7 and "skip-to-content" in text and "theme-toggle" in text
    assert "api/pfedmoap.html#pfedmoap.federation.Federation" in (site / "genindex.html").read_text()
    assert '"entropi"' in (site / "searchindex.js").read_text()  # stems of words are looked for


@pytest.mark.parametrize("text, found", [
    ('<script src="https://example.org/a.js">', True), ('<link rel="stylesheet" href="//example.org/a.css"/>', True),
    ("@font-face { src: url(https://example.org/a.woff2) }", True), ('<a href="https://example.org">', False),
    ('<script src="_static/a.js"></script>', False), ("background: url(data:image/png;base64,AA)", False)])
def test_requests_to_other_machines_are_found(text, found, tmp_path):
    (tmp_path / "page.html").write_text(text)
    assert bool(list(make_book.requests(tmp_path))) is found
