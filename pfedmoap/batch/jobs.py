"""Which notebooks are executed, with which parameters, and where their results go; checked before anything runs."""

import ast
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

from pfedmoap.errors import UserError, recognise, refuse_unknown
from pfedmoap.system import NOTEBOOKS, PROFILES, figures_dir, results_dir

KERNEL = "python3"
BEYOND = "06_beyond_the_paper"
PATHS = ("data_root", "results", "figures", "cache")  # parameters that are paths; notebooks run in their own folder
PRODUCTS = (".csv", ".md", ".tex", ".png", ".pdf")


@dataclass(frozen=True)
class Job:
    """A notebook to execute.

    Attributes:
        output: where its executed copy goes.
        folders: where it writes its results and its figures.
    """

    notebook: Path
    output: Path
    parameters: dict[str, Any]
    folders: tuple[Path, Path]

    @property
    def name(self) -> str:
        return self.notebook.stem

    def products(self) -> dict[Path, int]:
        """The tables and figures in its folders, other notebooks' too, and when they were written."""
        files = (path for folder in self.folders for path in folder.glob("*") if path.suffix in PRODUCTS)
        return {path: path.stat().st_mtime_ns for path in files}

    def owns(self, product: Path) -> bool:
        """By its name: table1_rounds.png is table1_label_disjoint's, start_here.csv is 00_start_here's."""
        first, _, rest = self.name.partition("_")
        return re.match(rf"{re.escape(rest if first.isdigit() else first)}(_|$)", product.stem) is not None


def plan(names: Sequence[str], profile: str, parameters: Mapping[str, Any], folder: Path = NOTEBOOKS) -> list[Job]:
    """What is to be executed, checked.

    Args:
        names: such as "table1" for `notebooks/table1_label_disjoint.ipynb`.
        parameters: values for the notebooks' parameters cells; text is understood as the type of the cell's own value.
            A notebook gets those that its cell has; each must be in one of the cells.
        folder: where the notebooks are, and the folder that they run in.

    Raises:
        UserError: an unknown name, profile or parameter, a folder that is not there, or no kernel.
    """
    profile = recognise(profile, PROFILES, "profile")
    paths = {name: os.path.abspath(parameters[name]) for name in PATHS if parameters.get(name)}
    parameters = {"profile": profile, **parameters, **paths}
    if (root := parameters.get("data_root")) and not Path(root).is_dir():
        raise UserError(f"the data root {root} is not a folder: create it and put the data there, or name another one")
    results = Path(parameters.get("results") or results_dir(profile))
    figures = Path(parameters.get("figures") or figures_dir(profile))
    defaults = {path: default_parameters(path) for path in dict.fromkeys(find(name, folder) for name in names)}
    known = list(dict.fromkeys(name for own in defaults.values() for name in own))
    owner = next(iter(defaults)).stem if len(defaults) == 1 else f"these {len(defaults)} notebooks"
    refuse_unknown(parameters, known, f"parameter of {owner}")
    if profile == "smoke" and not parameters.get("jobs"):
        parameters["jobs"] = 1  # its runs take less time than worker processes need to start
    jobs = []
    for path, own in defaults.items():
        values = {name: _as_type_of(own[name], value, name) for name, value in parameters.items() if name in own}
        jobs.append(Job(path, results / "notebooks" / path.name, values, (results, figures)))
    _make(results / "notebooks")
    _check_kernel()
    return jobs


def of_the_paper(folder: Path = NOTEBOOKS) -> list[str]:
    """The notebooks of the paper's tables and figures, by name."""
    return [path.stem for kind in ("table", "figure") for path in sorted(folder.glob(f"{kind}*.ipynb"), key=_number)]


def usual(profile: str, folder: Path = NOTEBOOKS) -> list[str]:
    """The notebooks that are executed if none is named: the paper's, and in `quick` also `BEYOND`."""
    return of_the_paper(folder) + [path.stem for path in folder.glob(f"{BEYOND}*.ipynb") if profile == "quick"]


def find(name: str, folder: Path = NOTEBOOKS) -> Path:
    """The notebook called `name`, or whose name begins with it: "table1" is `table1_label_disjoint.ipynb`."""
    known: dict[str, Path] = {}
    for path in sorted(folder.glob("*.ipynb")):
        known.setdefault(path.stem.partition("_")[0], path)
        known[path.stem] = path
    if not known:
        raise UserError(f"There are no notebooks in {folder}: `pfedmoap notebooks {folder}` copies them there.")
    name = name.removesuffix(".ipynb")
    refuse_unknown([name], list(known), "notebook")
    return known[name]


def default_parameters(notebook: Path) -> dict[str, Any]:
    """What the cell tagged "parameters" assigns: plain values by name.

    Read as Python, since `papermill.inspect_notebook` misses an assignment whose comment has an equals sign.
    """
    try:
        content = nbformat.read(notebook, as_version=4)
        cell = next((cell for cell in content.cells if "parameters" in cell.metadata.get("tags", ())), None)
        lines = ast.parse(cell.source).body if cell else []
        return {line.targets[0].id: ast.literal_eval(line.value) for line in lines if isinstance(line, ast.Assign)}
    except (OSError, ValueError, SyntaxError, AttributeError) as error:
        raise UserError(f"{notebook} is not a notebook with a parameters cell of plain values ({error}).") from error


def _number(path: Path) -> tuple[int, str]:
    digits = re.search(r"\d+", path.stem)
    return int(digits[0]) if digits else 0, path.stem


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The folder {folder} cannot be made ({error.strerror}): choose another one with --results DIR."
        ) from error


def _check_kernel() -> None:
    try:
        KernelSpecManager().get_kernel_spec(KERNEL)
    except NoSuchKernel as error:
        raise UserError(
            f"Jupyter has no kernel {KERNEL!r} here: install one with `python -m ipykernel install --sys-prefix`."
        ) from error


def _as_type_of(default: Any, value: Any, name: str) -> Any:
    if not isinstance(value, str) or isinstance(default, str):
        return value
    try:
        parsed = ast.literal_eval(value.capitalize())  # "true" is True
    except (ValueError, SyntaxError):
        parsed = value
    if isinstance(default, float) and type(parsed) is int:
        return float(parsed)
    if type(parsed) is type(default) or default is None:
        return parsed
    raise UserError(f"{name} must be of the kind of {default!r}, not {value!r}.")
