"""A federation of several processes on this machine: everything is started, run, and stopped again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pfedmoap.experiments import Experiment, Place, Record
from pfedmoap.flower.hosting import Host
from pfedmoap.flower.joining import Node
from pfedmoap.flower.links import Links


def demonstrate(
    experiment: Experiment, folder: Path, place: Place, say: Callable[[str], None], **options: Any
) -> Record:
    """Runs an experiment with a server and one node per client on the loopback, with TLS and node authentication.

    Args:
        folder: of keys, logs, and what server and clients keep; readable by its owner only.
        say: is told what happens.
        options: see `ServerSettings`.
    """
    host = Host(experiment.clients, folder / "server", place)
    with Links(folder / "links") as links:
        say(f"starting a server on {host.host}:{host.port} with TLS, and registering {experiment.clients} nodes' keys")
        host.start(links)
        nodes = [Node(links, host.invitation(client), folder / "clients", place, say)
                 for client in range(experiment.clients)]
        say("starting the nodes; every message is answered by a new process, which takes seconds")
        return host.run(experiment, links, lambda line: [say(text) for text in describe(line, experiment)],
                        lambda: [node.lost() for node in nodes], **options)


def describe(line: dict[str, Any], experiment: Experiment) -> list[str]:
    """A line of the server's progress, for people: what went wrong in a round, and the round."""
    events = [f"round {event['round']}: client {event['client']}: {event['what']}" for event in line["events"]]
    return [*events, f"round {line['round']} of {experiment.rounds}: accuracy {100 * line['accuracy']:.2f} %, "
                     f"{line['trained']} of {line['asked']} trained, {line['tested']} of {experiment.clients} tested, "
                     f"{line['seconds']:.0f} s"]
