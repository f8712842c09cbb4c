"""The command line: `pfedmoap run`, `reproduce`, `info`, and those of `cli_data`, `cli_federate` and `cli_report`."""

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer
from typer.core import TyperOption

from pfedmoap.commands import data, federate, report
from pfedmoap.commands.arguments import AsJson, CacheDir, DataRoot, Device, Jobs, Together, place
from pfedmoap.commands.open_command import OpenCommand, RunCommand
from pfedmoap.errors import PfedmoapError
from pfedmoap.system import paths

# What takes seconds to import is imported where it is used: --help and --version should answer at once.
if TYPE_CHECKING:
    from pfedmoap.batch import Job
    from pfedmoap.experiments import Experiment, Place, Record, Store

INTERRUPTED = 130
WIDE = 256  # token width from which on several torch threads are faster than one

app = typer.Typer(
    name="pfedmoap",
    help="pFedMoAP: personalised federated prompt learning on a frozen CLIP.",
    epilog="Start with: pfedmoap run",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    suggest_commands=False,  # click suggests them already
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.data, name="data")
app.add_typer(federate.federate, name="federate")
app.command()(data.cache)
app.command()(report.report)


class ReproduceCommand(OpenCommand):
    def more_options(self) -> list[click.Option]:
        value = "A value for the parameters cell of the notebooks that have it; may be repeated."
        ray = ("Computes the runs of all grids on Ray first: at ADDRESS (HOST:PORT, ray://HOST:PORT, auto: one on this "
               "machine), else at $RAY_ADDRESS, else on this machine alone. After the names of notebooks.")
        share = "Share of a GPU for each run on Ray, with --device cuda."
        address = click.Option(["--ray"], is_flag=False, flag_value="", metavar="[ADDRESS]", help=ray)
        address.rich_help_panel = "Where"  # Typer's own options know no value that may be left out
        return [
            TyperOption(param_decls=["parameter", "-p"], nargs=2, multiple=True, metavar="NAME VALUE", help=value,
                        rich_help_panel="What to run"),
            address,
            TyperOption(param_decls=["--gpus-per-run"], type=click.FloatRange(0, min_open=True), default=0.25,
                        show_default=True, help=share, rich_help_panel="Where"),
        ]  # fmt: skip


def _what(help: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel="What to run", **more)


@app.callback(invoke_without_command=True)
def pfedmoap(
    context: typer.Context, show_version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False
) -> None:
    if show_version:
        typer.echo(f"pfedmoap {version('pfedmoap')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(cls=RunCommand, short_help="Run one experiment or several, and show the accuracies.")
def run(
    context: typer.Context,
    dataset: Annotated[str, _what("Embedded, on disk (see `pfedmoap data`), or folders: your own.")] = "patterns",
    method: Annotated[list[str], _what("Method, several separated by commas, or all.")] = ["pfedmoap"],  # noqa: B006
    profile: Annotated[str, _what("Settings to start from: smoke, quick or paper.")] = "quick",
    seed: Annotated[list[str], _what("Seed, or several separated by commas.")] = ["1"],  # noqa: B006
    force: Annotated[bool, _what("Run again what is already stored.", "--force")] = False,
    as_json: AsJson = False,
    data_root: DataRoot = None,
    results: Annotated[Path | None, place(r"Folder of the records. \[default: results/runs/records]")] = None,
    cache_dir: CacheDir = None,
    device: Device = "cpu",
    jobs: Jobs = 0,
    together: Together = 0,
) -> None:
    """Run one experiment or several, and show the accuracies.

    What is not set is the profile's. A finished run is stored and never run twice;
    an interrupted one goes on where it stopped when the same is run again.

    Examples:

      pfedmoap run --dataset patterns --method all --profile smoke

      pfedmoap run --dataset digits --lam 0.25 --seed 1,2,3 --json

      pfedmoap run --dataset caltech101 --data-root DIR --shots none

      pfedmoap run --dataset folders --data-root DIR --partition given --clients 4
    """
    from pfedmoap.commands import console
    from pfedmoap.commands.options import build_experiments
    from pfedmoap.experiments import Place, Store

    experiments = build_experiments(dataset, _split(method), _split(seed), profile, context.obj)
    place = Place(data_root and str(data_root), cache_dir and str(cache_dir), device)
    store = Store(results or paths.results_dir("runs") / "records")
    with redirect_stdout(sys.stderr):
        records = _records(experiments, place, store, jobs, together, force)
    if as_json:
        typer.echo(json.dumps(records[0] if len(records) == 1 else records, indent=1))
    else:
        console.show_records(records, profile)


@app.command(cls=ReproduceCommand, short_help="Execute the notebooks behind the paper's tables and figures.")
def reproduce(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(help="Such as table1; all if none.", show_default=False)] = None,
    profile: Annotated[str, _what("smoke (seconds), quick (minutes) or paper (real data and weights).")] = "quick",
    seeds: Annotated[str | None, _what(r"Such as 1,2,3. \[default: the notebook's]")] = None,
    data_root: DataRoot = None,
    results: Annotated[Path | None, place(r"Folder of tables and records. \[default: results/PROFILE]")] = None,
    figures: Annotated[Path | None, place(r"Folder of figures. \[default: figures/PROFILE]")] = None,
    cache_dir: CacheDir = None,
    device: Device = "cpu",
    jobs: Jobs = 0,
    timeout: Annotated[float | None, _what(
        r"Minutes for each notebook; 0: any number. \[default: smoke 10, quick 120, paper 0]", min=0, metavar="MINUTES"
    )] = None,
    force: Annotated[bool, _what("Execute again what did not change; runs that are stored stay.", "--force")] = False,
) -> None:  # fmt: skip
    """Execute the notebooks behind the paper's tables and figures.

    Each writes its tables (CSV, Markdown, LaTeX) and figures (PNG, PDF), and is kept
    as executed. One that fails does not stop the others. Runs are never done twice,
    and a finished notebook is skipped until it, its parameters, the package, or what
    it wrote changes. (Of images in --data-root, only the path is compared.)

    Examples:

      pfedmoap reproduce

      pfedmoap reproduce table1 --seeds 1 -p methods pfedmoap,promptfl

      pfedmoap reproduce table1 --profile paper --data-root DIR --device cuda

      pfedmoap reproduce --profile paper --data-root DIR --device cuda --ray HOST:6379
    """
    from pfedmoap import batch
    from pfedmoap.commands import progress

    options = {"seeds": seeds, "data_root": data_root, "results": results, "figures": figures, "cache": cache_dir}
    parameters = {name: str(value) for name, value in options.items() if value is not None}
    parameters |= {"device": device} if device != "cpu" else {}
    parameters |= {"jobs": jobs} if jobs else {}
    parameters |= dict(context.obj.get("parameter", ()))
    names = names or batch.of_the_paper()
    planned = batch.plan(names, profile, parameters, paths.NOTEBOOKS)
    minutes = batch.time_limit(profile) if timeout is None else timeout or None
    failures = _run_on_ray(planned, jobs, force, **context.obj) if "ray" in context.obj else {}
    planned = [job for job in planned if job.name not in failures]
    watch = progress.Watch(planned)
    outcomes = watch.all(batch.execute(planned, processes=jobs, minutes=minutes, force=force, on_start=watch.start))
    progress.show_outcomes(outcomes)
    if failures:
        lines = "".join(f"\n  {name}: {reason}" for name, reason in failures.items())
        raise PfedmoapError(f"These were not executed, as runs of theirs failed on Ray:{lines}")
    if any(outcome.failure for outcome in outcomes):
        raise typer.Exit(1)


@app.command()
def info(
    model: Annotated[str, typer.Option(help="open_clip model name.")] = "embedded_clip",
    weights: Annotated[str | None, typer.Option(help=r"Pretrained tag or file. \[default: shipped weights]")] = None,
    data_root: DataRoot = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Show versions, the machine, the model, the data sets and what is on disk.

    Example:

      pfedmoap info --data-root DIR
    """
    from pfedmoap.commands import console
    from pfedmoap.commands.information import collect

    with redirect_stdout(sys.stderr):
        found = collect(model, weights, data_root, cache_dir)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    else:
        console.show_sections(found)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console's entry: runs a command and leaves with its exit code."""
    try:
        code = app(arguments, standalone_mode=False) or 0
    except PfedmoapError as error:
        code = _complain(str(error), error.exit_code)
    except click.ClickException as error:
        command = getattr(error, "ctx", None)
        hint = f" (see {command.command_path} --help)" if command else ""
        code = _complain(error.format_message() + hint, error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        _say("interrupted; what is finished is kept, run the same again to go on")
    sys.exit(code)


def _run_on_ray(
    planned: Sequence["Job"], jobs: int, force: bool, ray: str, gpus_per_run: float = 0.25, **_: Any
) -> dict[str, str]:
    from pfedmoap.commands.ray_grids import run_grids
    from pfedmoap.experiments import Cluster

    return run_grids(planned, Cluster(ray, jobs, gpus_per_run), force=force)


def _records(
    experiments: Sequence["Experiment"], place: "Place", store: "Store", jobs: int, together: int, force: bool
) -> list["Record"]:
    """Runs what the store lacks, after a look at data and weights that stops a mistake before anything is trained."""
    import torch

    from pfedmoap import clip
    from pfedmoap.experiments import load_dataset, runs

    first = experiments[0]
    _say(f"data: {load_dataset(first.dataset, place.data_root).source}")
    width = clip.load_clip(first.model, first.weights, device=place.device, precision=first.precision).token_width
    if force:
        for experiment in experiments:
            store.drop(experiment)
    stored = sum(store.get(experiment) is not None for experiment in experiments)
    if stored:
        _say(f"{stored} of {len(experiments)} runs are already stored in {store.folder} (--force runs them again)")
    if len(experiments) > 1:
        runs.run_all(experiments, place, store=store, jobs=jobs or None, together=together or None,
                     progress=stored < len(experiments))
        records = [store.get(experiment) for experiment in experiments]
    else:
        if width < WIDE:
            torch.set_num_threads(1)
        records = [runs.run(first, place, store=store)]
    for note in dict.fromkeys(note for record in records for note in record["data"]["notes"]):
        _say(f"note: {note}")
    return records


def _split(values: Sequence[str]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _say(message: str) -> None:
    typer.echo(message, err=True)


def _complain(message: str, code: int) -> int:
    _say(f"error: {message}")
    return code
