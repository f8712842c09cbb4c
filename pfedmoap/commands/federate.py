"""The commands of a real federation: `pfedmoap federate server`, `client` and `demo`."""

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pfedmoap.commands.open_command import RunCommand
from pfedmoap.commands.shared import CacheDir, DataRoot, place, say, suggest, warn_of_poor_match
from pfedmoap.errors import PfedmoapError

if TYPE_CHECKING:
    from pfedmoap.experiments import Experiment

Dataset = Annotated[str, typer.Option(help="As of `pfedmoap run`.", rich_help_panel="What to run")]
MethodName = Annotated[str, typer.Option("--method", help="One method.", rich_help_panel="What to run")]
Profile = Annotated[str, typer.Option(help="Settings to start from.", rich_help_panel="What to run")]
Seed = Annotated[str, typer.Option(help="One seed.", rich_help_panel="What to run")]
RoundTimeout = Annotated[float, typer.Option(
    help="Seconds after which a round goes on without those that have not answered.", rich_help_panel="Server",
    min=1)]  # fmt: skip
NormLimit = Annotated[float, typer.Option(
    help="An upload's norm may be so many times the pool's median.", rich_help_panel="Server", min=1)]  # fmt: skip
FilterName = Annotated[str, typer.Option(
    "--filter", help="Of what passed these limits: none, median (refuses what is far from the others), or trimmed "
                     "(averages without the extremes).", rich_help_panel="Server")]  # fmt: skip
FilterLimit = Annotated[float | None, typer.Option(
    help=r"Of median: times the usual distance; of trimmed: the share cut at either end. \[default: 2; 0.3]",
    rich_help_panel="Server")]  # fmt: skip
Patience = Annotated[float, typer.Option(
    help="Seconds that the first round waits for all nodes.", rich_help_panel="Server", min=0)]  # fmt: skip

federate = typer.Typer(
    help="A real federation of several machines or processes, on Flower.",
    epilog="Start with: pfedmoap federate demo",
    no_args_is_help=True,
)


@federate.command(cls=RunCommand, short_help="Everything on this machine: a server and one process per client.")
def demo(
    context: typer.Context,
    dataset: Dataset = "nature",
    method: MethodName = "pfedmoap",
    profile: Profile = "smoke",
    seed: Seed = "1",
    folder: Annotated[Path | None, place("Keep keys, logs and states there, and go on from it.")] = None,
    data_root: DataRoot = None,
    cache_dir: CacheDir = None,
    round_timeout: RoundTimeout = 600,
    norm_limit: NormLimit = 10,
    filter: FilterName = "none",
    filter_limit: FilterLimit = None,
    patience: Patience = 120,
) -> None:
    """Run a server and one node per client on this machine, with TLS and keys made on the spot.

    Takes the settings of `pfedmoap run`, with 3 clients and 3 rounds where nothing else is said, and shows
    the same table. Everything that was started is stopped, on Ctrl-C too.

    Examples:

      pfedmoap federate demo

      pfedmoap federate demo --method fedper --clients 4
    """
    from pfedmoap.experiments import Place
    from pfedmoap.flower import require_flower

    require_flower()
    from pfedmoap.flower import demonstrate
    from pfedmoap.protection import build_filter

    build_filter(filter, filter_limit)  # refuses what makes no sense, before anything is started
    experiment = _experiment(dataset, method, seed, profile, context.obj, data_root, {"clients": 3, "rounds": 3})
    where = Place(data_root and str(data_root), cache_dir and str(cache_dir))
    warn_of_poor_match(experiment, where, progress=True)
    with _private(folder) as used:
        record = demonstrate(experiment, used, where, say, round_timeout=round_timeout, norm_limit=norm_limit,
                             filter=filter, filter_limit=filter_limit, patience=patience)
    _show(record, profile)


@federate.command(cls=RunCommand, short_help="Run an experiment's server, and make a folder for every client.")
def server(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Keys, checkpoint, record; made if need be, private.")],
    dataset: Dataset = "nature",
    method: MethodName = "pfedmoap",
    profile: Profile = "quick",
    seed: Seed = "1",
    host: Annotated[str, typer.Option(help="Address that nodes connect to; it is in the certificate.",
                                      rich_help_panel="Server")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help=r"\[default: a free one]", rich_help_panel="Server")] = None,
    data_root: DataRoot = None,
    cache_dir: CacheDir = None,
    round_timeout: RoundTimeout = 3600,
    norm_limit: NormLimit = 10,
    filter: FilterName = "none",
    filter_limit: FilterLimit = None,
    patience: Patience = 3600,
) -> None:  # fmt: skip
    """Run an experiment's server, and make a folder for every client.

    FOLDER/nodes/client-N holds client N's key: hand it over as you would a password.
    A server that was stopped or killed goes on when the same is run again.

    Example:

      pfedmoap federate server build/server --method pfedmoap --clients 3 --rounds 5
    """
    from pfedmoap.experiments import Place
    from pfedmoap.flower import Links, require_flower

    require_flower()
    from pfedmoap.flower import Host, describe
    from pfedmoap.protection import build_filter

    build_filter(filter, filter_limit)  # refuses what makes no sense, before anything is started
    experiment = _experiment(dataset, method, seed, profile, context.obj, data_root)
    where = Place(data_root and str(data_root), cache_dir and str(cache_dir))
    hosting = Host(experiment.clients, folder, where, host, port)
    record = hosting.store.get(experiment)
    if record is None:
        with Links(folder.absolute() / "links") as links:
            hosting.start(links)
            say(f"listening on {host}:{hosting.port} (TLS, registered nodes only)")
            say(f"waiting for {experiment.clients} nodes: pfedmoap federate client {hosting.invitation(0)} and so on")
            record = hosting.run(
                experiment, links, lambda line: [say(text) for text in describe(line, experiment)],
                round_timeout=round_timeout, norm_limit=norm_limit, filter=filter, filter_limit=filter_limit,
                patience=patience)
    _show(record, profile)


@federate.command()
def client(
    folder: Annotated[Path, typer.Argument(help="What the server made for this client: nodes/client-N.")],
    state: Annotated[Path | None, place(r"Folder of its gate and prompt, private. \[default: state in FOLDER]")] = None,
    data_root: DataRoot = None,
    cache_dir: CacheDir = None,
) -> None:
    """Take part in a federation as one client, until Ctrl-C.

    Its images, its gate and its own prompt stay on this machine.

    Example:

      pfedmoap federate client client-0 --data-root DIR
    """
    from pfedmoap.experiments import Place
    from pfedmoap.flower import Links, require_flower

    require_flower()
    from pfedmoap.flower import Node

    where = Place(data_root and str(data_root), cache_dir and str(cache_dir))
    with Links(folder.absolute() / "links") as links:
        node = Node(links, folder, state or folder / "state", where, say)
        say(f"{node.name} takes part until Ctrl-C; its log is {links.logs / f'{node.name}.log'}")
        while not (lost := node.lost()):
            time.sleep(0.5)
        raise PfedmoapError(f"The node's {lost} ended; run the same again to take part. {links.tail(node.name)}")


def _experiment(
    dataset: str, method: str, seed: str, profile: str, given: dict, data_root: Path | None,
    base: Mapping[str, Any] = {},
) -> "Experiment":
    from pfedmoap.commands.options import build_experiments
    from pfedmoap.errors import UserError
    from pfedmoap.flower import check_federable

    suggested = suggest(dataset, data_root, given)
    experiments = build_experiments(dataset, [method], [seed], profile, given, {**base, **suggested})
    if len(experiments) != 1:
        raise UserError("A federation runs one experiment: name one method and one seed.")
    check_federable(experiments[0])
    return experiments[0]


@contextmanager
def _private(folder: Path | None) -> Iterator[Path]:
    """The folder that was asked for; or one that is removed in the end, unless something failed: it has the logs."""
    if folder:
        yield folder.absolute()
        return
    temporary = Path(tempfile.mkdtemp(prefix="pfedmoap-"))
    try:
        yield temporary
    except PfedmoapError:
        say(f"the logs are in {temporary / 'links' / 'logs'}")
        raise
    except BaseException:
        shutil.rmtree(temporary)
        raise
    shutil.rmtree(temporary)


def _show(record: dict, profile: str) -> None:
    from pfedmoap.commands import console
    from pfedmoap.protection import in_words

    console.show_records([record], profile)
    for line in in_words(record.get("ledger", ()), record["experiment"]["delta"]):
        typer.echo(line)
