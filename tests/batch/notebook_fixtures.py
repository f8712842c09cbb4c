"""Folders of small notebooks, and where what they write goes."""

from pathlib import Path

import pytest
from small_notebooks import FAILS, WRITES, write_notebook


@pytest.fixture
def folder(tmp_path) -> Path:
    """table1 writes a table and a figure, table2 fails after its first output."""
    folder = tmp_path / "notebooks"
    write_notebook(folder / "table1_good.ipynb", WRITES)
    write_notebook(folder / "table2_broken.ipynb", "print('so far')", FAILS)
    return folder


@pytest.fixture
def places(tmp_path) -> dict[str, str]:
    return {"results": str(tmp_path / "r"), "figures": str(tmp_path / "f")}
