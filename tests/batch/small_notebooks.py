"""Notebooks that papermill executes in about two seconds, most of which are the start of the kernel."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

PARAMETERS = """
profile = "quick"  # smoke = seconds
seeds = "1,2,3"
jobs = 0  # 0 = one per core
fast = False
share = 0.5
results = ""
figures = ""
data_root = ""
"""
WRITES = """
from pathlib import Path
Path(results, "table1.csv").write_text(f"{profile} {seeds} {jobs} {fast} {share}")
Path(figures).mkdir(exist_ok=True)
Path(figures, "table1.png").touch()
"""
FAILS = """first = 1
second = 2
third = 3
raise ValueError("a sentence\\nand the last line")
"""


def write_notebook(path: Path, *cells: str, parameters: str = PARAMETERS) -> Path:
    first = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    path.parent.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=[first, *map(new_code_cell, cells)]), path)
    return path


def printed(executed: Path) -> str:
    """What an executed copy shows on standard output."""
    outputs = [output for cell in nbformat.read(executed, as_version=4).cells for output in cell.get("outputs", ())]
    return "".join(output.get("text", "") for output in outputs)
