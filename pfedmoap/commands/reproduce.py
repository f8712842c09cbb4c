"""`pfedmoap reproduce`: the notebooks behind the paper's tables and figures, in batch."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer
from typer.core import TyperOption

from pfedmoap.commands.open_command import OpenCommand
from pfedmoap.commands.shared import CacheDir, DataRoot, Device, Jobs, place, what
from pfedmoap.errors import PfedmoapError, UserError
from pfedmoap.system import paths

if TYPE_CHECKING:
    from pfedmoap.batch import Job

PARAMETER = ("-p", "--parameter")


class ReproduceCommand(OpenCommand):
    def more_options(self) -> list[click.Option]:
        value = "A value for the parameters cell of the notebooks that have it; may be repeated."
        ray = ("Computes the runs of all grids on Ray first: at ADDRESS (HOST:PORT, ray://HOST:PORT, auto: one on this "
               "machine), else at $RAY_ADDRESS, else on this machine alone. After the names of notebooks.")
        share = "Share of a GPU for each run on Ray, with --device cuda."
        address = click.Option(["--ray"], is_flag=False, flag_value="", metavar="[ADDRESS]", help=ray)
        address.rich_help_panel = "Where"  # Typer's own options know no value that may be left out
        return [
            TyperOption(param_decls=["parameter", *PARAMETER], multiple=True, metavar="NAME=VALUE", help=value,
                        rich_help_panel="What to run"),
            address,
            TyperOption(param_decls=["--gpus-per-run"], type=click.FloatRange(0, min_open=True), default=0.25,
                        show_default=True, help=share, rich_help_panel="Where"),
        ]  # fmt: skip

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _joined(args))


def _joined(words: Sequence[str]) -> list[str]:
    """The command line with `-p NAME VALUE`, as papermill has it, written as `-p NAME=VALUE`."""
    joined, rest = [], iter(words)
    for word in rest:
        joined.append(word)
        if word in PARAMETER:
            name = next(rest, "")
            value = None if "=" in name else next(rest, None)
            if not name or ("=" not in name and value is None):
                raise UserError(f"{word} takes a parameter and its value: {word} NAME=VALUE, or {word} NAME VALUE.")
            joined.append(name if value is None else f"{name}={value}")
    return joined


def reproduce(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(help="Such as table1; all if none.", show_default=False)] = None,
    profile: Annotated[str, what("smoke, quick (minutes), long (hours) or paper (real data and weights).")] = "quick",
    seeds: Annotated[str | None, what(r"Such as 1,2,3. \[default: the notebook's]")] = None,
    data_root: DataRoot = None,
    results: Annotated[Path | None, place(r"Folder of tables and records. \[default: results/PROFILE]")] = None,
    figures: Annotated[Path | None, place(r"Folder of figures. \[default: figures/PROFILE]")] = None,
    cache_dir: CacheDir = None,
    device: Device = "cpu",
    jobs: Jobs = 0,
    timeout: Annotated[float | None, what(
        r"Minutes for each notebook; 0: any number. \[default: smoke 10, quick 120, long 480, paper 0]",
        min=0, metavar="MINUTES",
    )] = None,
    force: Annotated[bool, what("Execute again what did not change; runs that are stored stay.", "--force")] = False,
) -> None:  # fmt: skip
    """Execute the notebooks behind the paper's tables and figures; in quick also 06, beyond the paper.

    Each writes its tables (CSV, Markdown, LaTeX) and figures (PNG, PDF), and is kept
    as executed. One that fails does not stop the others. Runs are never done twice,
    and a finished notebook is skipped until it, its parameters, the package, or what
    it wrote changes. (Of images in --data-root, only the path is compared.)

    Examples:

      pfedmoap reproduce

      pfedmoap reproduce table1 --seeds 1 -p methods=pfedmoap,promptfl

      pfedmoap reproduce table1 --profile paper --data-root DIR --device cuda

      pfedmoap reproduce --profile paper --data-root DIR --device cuda --ray HOST:6379
    """
    from pfedmoap import batch
    from pfedmoap.commands import progress

    options = {"seeds": seeds, "data_root": data_root, "results": results, "figures": figures, "cache": cache_dir}
    parameters = {name: str(value) for name, value in options.items() if value is not None}
    parameters |= {"device": device} if device != "cpu" else {}
    parameters |= {"jobs": jobs} if jobs else {}
    parameters |= dict(given.split("=", 1) for given in context.obj.get("parameter", ()))
    names = names or batch.usual(profile)
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


def _run_on_ray(
    planned: Sequence["Job"], jobs: int, force: bool, ray: str, gpus_per_run: float = 0.25, **_: Any
) -> dict[str, str]:
    from pfedmoap.commands.ray_grids import run_grids
    from pfedmoap.experiments import Cluster

    return run_grids(planned, Cluster(ray, jobs, gpus_per_run), force=force)
