"""A federation on Flower: a server and two nodes as commands of their own, each with Flower's processes under it."""

import json
from pathlib import Path

from contents import records
from striking import Command, Work, differences, pfedmoap

CLIENTS, ROUNDS = 2, 2


def commands(folder: Path) -> list[Command]:
    cache = "--cache-dir", folder / "cache"
    settings = ("--dataset", "digits", "--profile", "smoke", "--clients", CLIENTS, "--rounds", ROUNDS, "--experts", 1,
                "--round-timeout", 300, "--patience", 300)
    invited = [folder / "server" / "nodes" / f"client-{client}" for client in range(CLIENTS)]
    return [Command("server", pfedmoap("federate", "server", folder / "server", *settings, *cache)),
            *(Command(f"node {client}", pfedmoap("federate", "client", own, *cache), attends=True,
                      needs=own / "node.json") for client, own in enumerate(invited))]


def left(folder: Path) -> dict[str, str]:
    return records(folder / "server" / "records", folder)


def differs(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """As a node's kill may cost its round: up to the first round in which a client was missing the record is the
    undisturbed one's, and behind it every missing number of a client has an event that says why.
    """
    if found == expected or found.keys() != expected.keys():
        return differences(found, expected)
    problems = []
    for name, text in found.items():
        record, whole = json.loads(text), json.loads(expected[name])
        if whole["events"]:
            return [f"{name} has events undisturbed: {whole['events']}"]
        if not record["events"]:
            problems += differences({name: text}, {name: expected[name]})
            continue
        known = {(event["round"], event["client"]) for event in record["events"]}
        first = min(number for number, _ in known)
        for entry, other in zip(record["rounds"], whole["rounds"], strict=True):
            if entry["number"] < first and entry != other:
                problems.append(f"different: round {entry['number']} of {name}, before anything went wrong")
            missing = {client for client, accuracy in enumerate(entry["accuracies"]) if accuracy is None}
            missing |= {client for client in entry["selected"] if str(client) not in entry["losses"]}
            problems += [f"client {client} is missing in round {entry['number']} of {name}, and no event says why"
                         for client in sorted(missing) if (entry["number"], client) not in known]
        for field in ("key", "experiment", "data", "clip", "versions"):
            if record[field] != whole[field]:
                problems.append(f"different: {field} of {name}")
    return problems


FEDERATIONS = Work("federations", commands, left, differs=differs, most=5,
                   compared="records without seconds; after the kill of a node those of the rounds before it, and that "
                            "an event says why a client is missing")
