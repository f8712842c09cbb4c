"""Whether a file can hold the record of a run: what a disk, a hand or another program has spoiled is not believed."""

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pfedmoap.beyond import NewClients
from pfedmoap.errors import PfedmoapError
from pfedmoap.experiments.experiment import Experiment

CHECKSUM = "sha256"
LARGEST = 1e300  # of a number in a record
Check = Callable[[Any], bool]


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """The record as it is stored: with its checksum."""
    plain = json.loads(json.dumps(record))
    return plain | {CHECKSUM: _checksum(plain)}


def believed(stored: Any, experiment: Experiment) -> dict[str, Any] | None:
    """The record of an experiment in what its file holds, or None.

    Whatever has no checksum, as records of earlier versions and what was written by hand, must also agree with itself
    and with the experiment.
    """
    if not isinstance(stored, dict):
        return None
    record = dict(stored)
    checksum = record.pop(CHECKSUM, None)
    if not _has_form(record) or record["key"] != experiment.key:
        return None
    if checksum is not None:
        return record if checksum == _checksum(record) else None
    if not _agrees(record, experiment):
        return None
    return record | {"experiment": json.loads(json.dumps(experiment.to_dict()))}  # with what is new since


def _checksum(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


# --- its form


def _number(value: Any) -> bool:
    return type(value) in (int, float) and -LARGEST < value < LARGEST


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < LARGEST


def _share(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1


def _none_or(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _list(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _mapping(check: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _by_client(check: Check) -> Check:
    return lambda value: _mapping(check)(value) and all(client.isdecimal() for client in value)


def _form(needed: dict[str, Check], optional: dict[str, Check]) -> Check:
    def has_form(value: Any) -> bool:
        return (isinstance(value, dict) and needed.keys() <= value.keys()
                and all(check(value[name]) for name, check in (needed | optional).items() if name in value))

    return has_form


_ROUND = _form(
    {"number": _count, "selected": _list(_count), "losses": _by_client(_number),
     "accuracies": _list(_none_or(_share)), "bytes_up": _by_client(_count), "bytes_down": _by_client(_count),
     "seconds": _mapping(_number)},
    {"accuracy": _share, "diagnostics": _mapping(lambda value: type(value) in (int, float)),
     "sigmas": _by_client(_number)})
_has_form = _form(
    {"key": _text, "experiment": _form({}, {"method": _form({"name": _text}, {})}), "accuracy": _share,
     "accuracy_last5": _share, "rounds": lambda value: bool(value) and _list(_ROUND)(value),
     "seconds": lambda value: _mapping(_number)(value) and "total" in value,
     "data": _form({"source": _text, "notes": _list(_text)},
                   {"fingerprint": _text, "classes": _count, "train_images": _list(_count),
                    "test_images": _list(_count)})},
    {"seeds_per_batch": _count, "clip": _mapping(_text), "machine": _text, "versions": _mapping(_text),
     "transport": _text, "events": _list(_form({"round": _count, "client": _count, "what": _text}, {})),
     "beyond": _form({}, {"accuracies": _mapping(_list(_none_or(_share)))})})


# --- whether it agrees with itself


def _agrees(record: dict[str, Any], experiment: Experiment) -> bool:
    """Whether a record without a checksum can be what came of the experiment."""
    rounds, means = record["rounds"], []
    clients = len(rounds[0]["accuracies"])
    for number, entry in enumerate(rounds, start=1):
        if entry["number"] != number or not _round_agrees(entry, clients, in_one_place="transport" not in record):
            return False
        means.append(_mean(entry))
    expected = clients <= experiment.clients if isinstance(experiment.question, NewClients) else (
        clients == experiment.clients)
    return (expected and len(rounds) == experiment.rounds and _is_of(record["experiment"], experiment)
            and math.isclose(record["accuracy"], means[-1], abs_tol=1e-9)
            and math.isclose(record["accuracy_last5"], float(np.mean(means[-5:])), abs_tol=1e-9)
            and {"name", "weights", "fingerprint", "device"} <= record.get("clip", {}).keys()
            and {"fingerprint", "classes", "train_images", "test_images"} <= record["data"].keys())


def _round_agrees(entry: dict[str, Any], clients: int, in_one_place: bool) -> bool:
    """Whether all clients were tested, those who trained were selected, and the mean is theirs.

    Args:
        in_one_place: every client that was selected has trained, or none; else it may not have answered.
    """
    received, sent, trained = ({*map(int, entry[name])} for name in ("bytes_down", "bytes_up", "losses"))
    selected = set(entry["selected"])
    reached = any(value is not None for value in entry["accuracies"])
    return (len(entry["accuracies"]) == clients and reached and len(selected) == len(entry["selected"])
            and trained <= sent <= selected <= received <= set(range(clients))
            and (trained == sent and trained in (selected, set()) or not in_one_place)  # zero-shot CLIP trains nobody
            and {*map(int, entry.get("sigmas", ()))} <= selected
            and math.isclose(entry.get("accuracy", _mean(entry)), _mean(entry), abs_tol=1e-9))


def _mean(entry: dict[str, Any]) -> float:
    """The accuracy of the clients that were reached."""
    return float(np.mean([value for value in entry["accuracies"] if value is not None]))


def _is_of(settings: dict[str, Any], experiment: Experiment) -> bool:
    """Whether these settings are the experiment's; those that are not there have their defaults."""
    try:
        return Experiment.from_dict(settings).key == experiment.key
    except (PfedmoapError, TypeError, ValueError, AttributeError, KeyError, OverflowError):
        return False
