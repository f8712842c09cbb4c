"""The README's code runs, and what it names exists."""

import re
from pathlib import Path

import pytest

from pfedmoap.methods import METHODS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
def test_its_python_runs(code, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PFEDMOAP_CACHE", str(tmp_path))
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    assert re.search(r"\d\.\d", capsys.readouterr().out)


MADE_BY_REPRODUCE = {"results/quick/notebooks"}  # not committed: a fresh clone has no executed notebooks


def test_its_files_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    names = links + re.findall(r"`((?:pfedmoap|notebooks|results|tests)/[\w/.-]+)`", TEXT)
    committed = set(names) - MADE_BY_REPRODUCE
    assert committed and sorted(name for name in committed if not (ROOT / name).exists()) == []


def test_it_names_every_method():
    assert [name for name in METHODS if f"`{name}`" not in TEXT] == []
