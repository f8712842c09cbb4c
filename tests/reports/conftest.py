"""Tables with records made by hand: a grid and its store, or a folder of results."""

import pytest
from claiming import write_results
from reporting import make_grid, make_store


@pytest.fixture
def quick(tmp_path):
    grid = make_grid("quick")
    return grid, make_store(tmp_path / "records", grid)


@pytest.fixture
def paper(tmp_path):
    grid = make_grid("paper")
    return grid, make_store(tmp_path / "records", grid)


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder with one table of six seeds (`SIX_SEEDS`), and its records."""
    return write_results(tmp_path, monkeypatch)
