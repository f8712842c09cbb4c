"""The soak's harness finds what is planted, draws the same kills again, and kills a real run that goes on."""

import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import soak
from contents import records
from soak_federations import differs
from striking import Command, Life, Strike, Work, live, pfedmoap, strikes

from pfedmoap.experiments import Place, Store, from_profile, run
from pfedmoap.methods import PFedMoAP

PLANTED = Path(__file__).with_name("planted.py")
AT_ONCE = Strike("process", "write", 0.0, 0.0)
FOUND = {
    "nothing": [],
    "is wrong": ["different: result"],
    "loses its result": ["missing: result"],
    "leaves a file": ["left over: .result.part"],
    "leaves a process": ["process left: python -c"],
    "complains": ["traceback of planted: EOFError"],
    "ends": ["planted ended with 1, unhurt: error: the lock is taken"],
    "speaks of Ctrl-C": ["planted spoke of Ctrl-C after a kill of python planted.py: interrupted"],
    "waits for ever": ["hang: planted after a kill of python planted.py"],
}


def planted(fault: str) -> Work:
    def commands(folder):
        words = [sys.executable, str(PLANTED), fault, str(folder), *["--undisturbed"] * (folder.name == "whole")]
        return [Command("planted", words)]

    def left(folder):
        return {path.name: path.read_text() for path in folder.glob("result")}

    return Work("planted", commands, left, "", grace=0.5, limit=2.0 if fault == "waits for ever" else 60.0)


@pytest.mark.parametrize(("fault", "kind"), [*((fault, "process") for fault in FOUND), ("nothing", "group"),
                                             ("nothing", "all"), ("is wrong", "all")])
def test_what_is_planted_is_found(fault, kind, tmp_path):
    work = planted(fault)
    whole = live(work, tmp_path / "whole")
    assert whole.problems == [] and whole.content == {"result": "42"}
    life = live(work, tmp_path / "killed", [replace(AT_ONCE, kind=kind)], whole)
    assert life.problems == [problem.replace("python", Path(sys.executable).name) for problem in FOUND[fault]]
    assert len(life.hits) == 1 and life.starts == 2 and life.hits[0].ended == {"planted": -9}
    assert [each for each in psutil.process_iter(["cmdline"]) if str(tmp_path) in (each.info["cmdline"] or ())] == []


def test_what_was_found_is_in_the_table_and_ends_with_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(soak, "strikes", lambda *_: [AT_ONCE])
    *_, lives = soak.soak(planted("is wrong"), 2, 0, tmp_path)
    assert len(lives) == 3
    assert [row[-1] for row in soak.rows(planted("is wrong"), lives)] == ["different: result"] * 2
    line = soak.summary(planted("is wrong"), lives)
    assert line[1:7] == [2, 2, 0, 0, 2, 4] and line[-2:] == ["0 of 2", "different: result"]


def test_kills_are_drawn_from_the_seed():
    first, again, other = (strikes(random.Random(f"{seed} grids"), 60.0, 5) for seed in (0, 0, 1))
    assert first == again != other
    many = [strike for seed in range(40) for strike in strikes(random.Random(seed), 60.0, 5)]
    assert {strike.kind for strike in many} == {"process", "group", "all"}
    assert {strike.after for strike in many} == {"start", "write"}
    assert all(0 <= strike.seconds <= 30 and 0 <= strike.which < 1 for strike in many)


def round_of(number, accuracies=(0.5, 0.7), losses=(("0", 1.0), ("1", 2.0))):
    return {"number": number, "selected": [0, 1], "accuracies": list(accuracies), "losses": dict(losses)}


def record_of(*rounds, events=()):
    same = dict.fromkeys(("key", "experiment", "data", "clip", "versions"), "")
    return {"record a.json": json.dumps(same | {"rounds": rounds, "events": events})}


def test_a_missing_client_needs_an_event_and_changes_no_earlier_round():
    whole, event = record_of(round_of(1), round_of(2)), {"round": 2, "client": 1, "what": "no answer"}
    lost = round_of(2, (0.4, None), [("0", 1.5)])
    assert differs(whole, whole) == []
    assert differs(record_of(round_of(1), lost, events=[event]), whole) == []
    assert differs(record_of(round_of(1), lost), whole) == ["different: record a.json"]
    other = record_of(round_of(1, (0.5, 0.6)), lost, events=[event])
    assert differs(other, whole) == ["different: round 1 of record a.json, before anything went wrong"]
    unsaid = record_of(round_of(1), round_of(2, (None, None), []), events=[event])
    assert differs(unsaid, whole) == ["client 0 is missing in round 2 of record a.json, and no event says why"]


def test_a_real_kill(tmp_path, features_cache):
    """Of a run that has begun; it goes on to the record of a run in this process."""
    experiment = from_profile("digits", PFedMoAP(), "smoke", rounds=6)
    run(experiment, Place(cache=features_cache), store=Store(tmp_path / "whole" / "records"), progress=False)

    def commands(folder):
        words = pfedmoap("run", "--dataset", "digits", "--profile", "smoke", "--rounds", 6,
                         "--results", folder / "records", "--cache-dir", features_cache)
        return [Command("run", words)]

    def left(folder):
        return records(folder / "records", folder)

    whole = Life(content=left(tmp_path / "whole"), files={"records/.lock"})
    whole.files |= {f"records/{name.removeprefix('record ')}" for name in whole.content}
    life = live(Work("run", commands, left, ""), tmp_path / "killed", [AT_ONCE], whole)
    assert life.problems == [] and len(whole.content) == 1
    assert len(life.hits) == 1 and life.starts == 2
