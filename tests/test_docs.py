"""README and docs: their commands and code run, what they name exists, and each page starts with its command."""

import re
import shlex
from pathlib import Path

import pytest
from layouts import write_classes

from pfedmoap.audit import table
from pfedmoap.commands import main
from pfedmoap.methods import METHODS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "ARTIFACT.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text() for page in PAGES}
BLOCK = re.compile(r"(?:<!-- (.+?) -->\n)?```(sh|python)\n(.*?)```", re.DOTALL)
BLOCKS = [(name, *found) for name, text in TEXTS.items() for found in BLOCK.findall(text)]
RUN = [(f"{name}-{number}", language, code)
       for number, (name, mark, language, code) in enumerate(BLOCKS) if mark == "run"]
MADE_BY_REPRODUCE = {"results/quick/notebooks", "results/quick", "figures/quick"}  # not, or not all, committed


@pytest.fixture(scope="session")
def data_root(tmp_path_factory) -> Path:
    """A few small images where Caltech101 has its own."""
    root = tmp_path_factory.mktemp("data")
    write_classes(root / "caltech-101/101_ObjectCategories", dict.fromkeys(map("class{:02d}".format, range(100)), 4))
    return root


@pytest.fixture
def place(tmp_path, features_cache, monkeypatch) -> Path:
    """A folder of the test's own to run in; image features are shared by all blocks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PFEDMOAP_CACHE", features_cache)
    monkeypatch.setattr("pfedmoap.data.doctor.find_card", lambda name: None)  # its images are few on purpose
    return tmp_path


def arguments(line: str, data_root: Path, folder: Path) -> list[str]:
    """Of a command as it is run here: on data that are there, and with results in a folder of the test's own."""
    program, *words = shlex.split(line, comments=True)
    assert program == "pfedmoap", f"{line}: this test runs no other program"
    words = [str(data_root) if word == "DIR" else word for word in words]
    places = {"run": ["--results", str(folder)], "tune": ["--results", str(folder)],
              "report": ["--results", str(folder), "--figures", str(folder)]}
    return words + places.get(words[0], [])


@pytest.mark.parametrize(("language", "code"), [block[1:] for block in RUN], ids=[block[0] for block in RUN])
def test_its_blocks_run(language, code, place, data_root, capsys):
    if language == "python":
        exec(compile(code, "docs", "exec"), {"__name__": "docs"})
        assert re.search(r"\d\.\d", capsys.readouterr().out)
        return
    for line in code.splitlines():
        if line.strip() and not line.startswith(". .venv"):
            with pytest.raises(SystemExit) as ended:
                main(arguments(line, data_root, place / "results"))
            assert ended.value.code == 0, f"{line}: {capsys.readouterr().err[-2000:]}"
    assert re.search(r"\d", capsys.readouterr().out)


def test_every_block_is_run_or_says_why_not():
    assert [(name, code) for name, mark, _, code in BLOCKS if mark != "run" and not mark.startswith("not run: ")] == []
    assert len(RUN) >= 8


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_what_it_names_exists(name):
    text, folder = TEXTS[name], (ROOT / name).parent
    links = [(folder / link).resolve().relative_to(ROOT) for link in re.findall(r"\]\((?!http)([^)#]+)\)", text)]
    files = re.findall(r"`((?:pfedmoap|notebooks|results|tests|docs)/[\w/.-]+)`", text)
    named = {str(path) for path in [*links, *files]} - MADE_BY_REPRODUCE
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


def test_every_method_is_named():
    assert [name for name in METHODS if f"`{name}`" not in TEXTS["docs/methods.md"]] == []


def test_the_audits_checks_are_those_of_the_code():
    assert table() in TEXTS["docs/audit.md"]


def test_the_readme_is_a_page_and_leads_to_all_others():
    assert len((ROOT / "README.md").read_bytes()) <= 10_000
    reached, ahead = set(), ["README.md"]
    while ahead:  # by the links of the pages that it leads to, too
        reached.add(name := ahead.pop())
        links = [(ROOT / name).parent / link for link in re.findall(r"\]\((?!http)([^)#]+\.md)\)", TEXTS[name])]
        ahead += {link.resolve().relative_to(ROOT).as_posix() for link in links} & TEXTS.keys() - reached
    assert [name for name in TEXTS if name not in reached] == []


@pytest.mark.parametrize("name", sorted(name for name in TEXTS if name.startswith("docs/")))
def test_a_page_starts_with_the_command_that_a_reader_came_for(name):
    title, _, rest = TEXTS[name].partition("\n\n")
    before = rest.partition("```")[0]
    assert title.startswith("# ") and len(re.sub(r"<!--.*?-->", "", before).split()) <= 20
