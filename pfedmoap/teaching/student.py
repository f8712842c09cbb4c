"""A student's version of the teaching notebook: exercises as cells with holes, and after each a cell that checks it.

It is made from the notebook itself. Exercises stand in the text of cells with the tag `exercises`. In a solution, a
line that ends with `# hole` is the student's to write, and what follows `# check` tells right from wrong.
"""

import re
from collections.abc import Iterator
from textwrap import indent
from typing import Any

import nbformat
from nbformat import NotebookNode

TAG, CHECK, TURN = "exercises", "# check\n", "# your turn"
EXERCISE = re.compile(r"### (.+?)\n(.*?)<details>.*?```python\n(.*?)```.*?</details>", re.DOTALL)
HOLE = re.compile(r"^( *)((\w+)\S*) = .*  # hole$", re.MULTILINE)


def student_version(notebook: NotebookNode) -> NotebookNode:
    """The notebook with holes in place of its solutions; everything else stays."""
    cells = []
    for cell in notebook.cells:
        cells += _taken_apart(cell) if TAG in cell.metadata.get("tags", ()) else [cell]
    return nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)


def unsolved(**values: Any) -> list[str]:
    """The names whose values are still `...`, or are dictionaries with such a value."""
    return [name for name, value in values.items()
            if value is ... or isinstance(value, dict) and any(each is ... for each in value.values())]


def _taken_apart(cell: NotebookNode) -> Iterator[NotebookNode]:
    """The text around the exercises, and of each its question, a cell to write in, and its check."""
    end = 0
    for number, found in enumerate(EXERCISE.finditer(cell.source)):
        title, question, solution = found.groups()
        before = cell.source[end : found.start()]
        yield nbformat.v4.new_markdown_cell(f"{before}### {title}\n{question}".strip(), id=f"{cell.id}-{number}")
        written, _, check = solution.partition(CHECK)
        names = dict.fromkeys(hole[2] for hole in HOLE.findall(written))
        code = HOLE.sub(rf"\1\2 = ...  {TURN}", written).strip() if names else TURN
        yield nbformat.v4.new_code_cell(code, id=f"{cell.id}-{number}-try")
        if names:
            yield nbformat.v4.new_code_cell(_checked(title, list(names), check), id=f"{cell.id}-{number}-check")
        end = found.end()
    if rest := cell.source[end:].strip():
        yield nbformat.v4.new_markdown_cell(rest, id=f"{cell.id}-rest")


def _checked(title: str, names: list[str], check: str) -> str:
    given = ", ".join(f"{name}={name}" for name in names)
    return "\n".join([
        "from pfedmoap.teaching import unsolved", "", f"if missing := unsolved({given}):",
        f'    print("{title}: still to be written:", *missing)', "else:",
        indent(check.strip(), "    "), f'    print("{title}: right")'])
