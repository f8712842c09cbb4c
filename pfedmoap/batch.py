"""Notebooks as batch jobs: papermill executes them one after another, and one that fails does not stop the others."""

import ast
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client.kernelspec import NoSuchKernel
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from pfedmoap.errors import UserError, refuse_unknown
from pfedmoap.paths import NOTEBOOKS, PROFILES, figures_dir, results_dir

KERNEL = "python3"
PATHS = ("data_root", "results", "figures", "cache")  # parameters that are paths; notebooks run in their own folder
PRODUCTS = (".csv", ".md", ".tex", ".png", ".pdf")
SHOWN_LINES = 3


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


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        seconds: wall time.
        written: the tables and figures that it wrote.
        failure: None, or a few lines: the cell's number, its first lines, the last line of the error.
    """

    job: Job
    seconds: float
    written: tuple[Path, ...]
    failure: str | None = None


def reproduce(
    names: Sequence[str],
    profile: str = "quick",
    parameters: Mapping[str, Any] = {},
    *,
    folder: Path = NOTEBOOKS,
    watch: Callable[[Job], AbstractContextManager] = lambda job: nullcontext(),
) -> Iterator[Outcome]:
    """Executes notebooks; their tables and figures are written by themselves.

    Args:
        names: such as "table1" for `notebooks/table1_label_disjoint.ipynb`.
        parameters: values for the notebooks' parameters cells; text is understood as the type of the cell's own value.
        folder: where the notebooks are, and the folder that they run in.
        watch: around each execution, for a progress display.

    Yields:
        The outcome of each notebook as soon as it is executed.

    Raises:
        UserError: an unknown name, profile or parameter; no notebook has been executed then.
    """
    for job in plan(names, profile, parameters, folder):
        with watch(job):
            outcome = execute(job)
        yield outcome


def plan(names: Sequence[str], profile: str, parameters: Mapping[str, Any], folder: Path = NOTEBOOKS) -> list[Job]:
    """What `reproduce` is going to execute, checked; raises as that does."""
    refuse_unknown([profile], list(PROFILES), "profile")
    paths = {name: os.path.abspath(parameters[name]) for name in PATHS if parameters.get(name)}
    parameters = {**parameters, **paths}
    if (root := parameters.get("data_root")) and not Path(root).is_dir():
        raise UserError(f"the data root {root} is not a folder: create it and put the data there, or name another one")
    results = Path(parameters.get("results") or results_dir(profile))
    figures = Path(parameters.get("figures") or figures_dir(profile))
    output = results / "notebooks"
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The folder {output} cannot be made ({error.strerror}): choose another one with --results DIR."
        ) from error
    notebooks = dict.fromkeys(find(name, folder) for name in names)
    return [
        Job(path, output / path.name, typed(path, {"profile": profile, **parameters}), (results, figures))
        for path in notebooks
    ]


def of_the_paper(folder: Path = NOTEBOOKS) -> list[str]:
    """The notebooks of the paper's tables and figures, by name."""
    return [path.stem for kind in ("table", "figure") for path in sorted(folder.glob(f"{kind}*.ipynb"))]


def find(name: str, folder: Path = NOTEBOOKS) -> Path:
    """The notebook called `name`, or whose name begins with it: "table1" is `table1_label_disjoint.ipynb`."""
    known: dict[str, Path] = {}
    for path in sorted(folder.glob("*.ipynb")):
        known.setdefault(path.stem.partition("_")[0], path)
        known[path.stem] = path
    if not known:
        raise UserError(f"There are no notebooks in {folder}: run from a clone of the project.")
    name = name.removesuffix(".ipynb")
    refuse_unknown([name], list(known), "notebook")
    return known[name]


def typed(notebook: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with the types of those in the notebook's parameters cell; names that it lacks are refused."""
    defaults = default_parameters(notebook)
    refuse_unknown(parameters, list(defaults), f"parameter of {notebook.stem}")
    return {name: _as_type_of(defaults[name], value, name) for name, value in parameters.items()}


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


def execute(job: Job) -> Outcome:
    """Executes one notebook; its copy is written after every cell, so that a failure leaves what was done until then.

    Raises:
        UserError: there is no kernel to execute any notebook with.
    """
    before, started = _products(job), time.perf_counter()
    failure = _run(job)
    written = sorted(path for path, modified in _products(job).items() if before.get(path) != modified)
    return Outcome(job, time.perf_counter() - started, tuple(written), failure)


def _run(job: Job) -> str | None:
    """Executes the notebook; returns what went wrong."""
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # else each kernel warns about missed breakpoints
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns about parameters, which `typed` has checked
    try:
        papermill.execute_notebook(
            job.notebook,
            job.output,
            job.parameters,
            kernel_name=KERNEL,
            language="python",
            cwd=job.notebook.parent,
            progress_bar=False,
            extra_arguments=["--log-level=CRITICAL"],  # kernels talk about themselves on our standard error
        )
    except PapermillExecutionError as error:
        return _describe(error)
    except KeyboardInterrupt:
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # it would print the abandoned cell's traceback
        raise
    except NoSuchKernel as error:
        raise UserError(
            f"Jupyter has no kernel {KERNEL!r} here: install one with `python -m ipykernel install --sys-prefix`."
        ) from error
    except DeadKernelError:
        return "its kernel was killed, perhaps for lack of memory: run the same again, with fewer --jobs"
    except OSError as error:
        return f"{error.filename or job.output} cannot be written ({error.strerror})"
    except RuntimeError as error:  # the kernel did not start
        return str(error)
    return None


def _products(job: Job) -> dict[Path, int]:
    """The tables and figures that are there, and when they were written."""
    files = (path for folder in job.folders for path in folder.glob("*") if path.suffix in PRODUCTS)
    return {path: path.stat().st_mtime_ns for path in files}


def _describe(error: PapermillExecutionError) -> str:
    lines = error.source.strip().splitlines()
    shown = lines[:SHOWN_LINES] + ["..."] * (len(lines) > SHOWN_LINES)
    message = (error.evalue.strip().splitlines() or [""])[-1]
    return "\n".join([f"cell [{error.exec_count}]:", *(f"    {line}" for line in shown), f"{error.ename}: {message}"])


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
