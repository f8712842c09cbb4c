"""The command line as a whole: its commands, and how it ends."""

import sys
from collections.abc import Sequence
from typing import Annotated

import click
import typer

from pfedmoap import __version__
from pfedmoap.commands import audit, cache, data, federate, info, notebooks, report, reproduce, run, tune, verify
from pfedmoap.commands.open_command import RunCommand
from pfedmoap.commands.shared import say
from pfedmoap.errors import PfedmoapError

INTERRUPTED = 130

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
app.command(cls=RunCommand, short_help="Run one experiment or several, and show the accuracies.")(run.run)
app.command(cls=reproduce.ReproduceCommand, short_help="Execute the notebooks behind the paper's tables and figures.")(
    reproduce.reproduce)
app.command(short_help="Copy the notebooks into a folder, to run and change them there.")(notebooks.notebooks)
app.command(short_help="Tune every method with the same number of tries, and compare.")(tune.tune)
app.add_typer(data.data, name="data")
app.add_typer(federate.federate, name="federate")
app.command()(cache.cache)
app.command()(report.report)
app.command(short_help="Judge every claim of the paper and of this kit by the results.")(verify.verify)
app.command(short_help="Check an implementation, ours or yours, for the faults that change tables.")(audit.audit)
app.command()(info.info)


@app.callback(invoke_without_command=True)
def pfedmoap(
    context: typer.Context, show_version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False
) -> None:
    if show_version:
        typer.echo(f"pfedmoap {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


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
        say("interrupted; what is finished is kept, run the same again to go on")
    sys.exit(code)


def _complain(message: str, code: int) -> int:
    say(f"error: {message}")
    return code
