"""The harness of hostile inputs finds what it is there for; and of the inputs themselves every fortieth."""

import os
import subprocess
import sys
import time
from pathlib import Path

import hostile
import pandas as pd
import pytest
from bench import CANARY, HARMLESS, REFUSED, Hostile, Outcome, examine
from tabulate import tabulate

from pfedmoap.errors import UserError
from pfedmoap.system.paths import ROOT


def leave_canary(folder):
    (folder.parent / CANARY).touch()


def overwrite_another(folder):
    (folder.parent / "secret.txt").write_text("mine now")


def show_another(folder):
    return (folder.parent / "secret.txt").read_text()


def complain(folder):
    raise UserError("seeds must be numbers, such as --seeds 1,2.")


WEAK = {
    "it was executed": leave_canary,
    "files beside its folder changed": overwrite_another,
    "another's file is shown": show_another,
    "a traceback": lambda folder: 1 / 0,
    "it hangs": lambda folder: time.sleep(60),
    "it ends the process by signal 6": lambda folder: os.abort(),
    "the terminal is sent '\\x1b'": lambda folder: "\x1b]0;owned\x07",
    "the terminal is sent '\\u202e'": lambda folder: "\u202egpj.exe",
    "exit code 3 without a sentence": lambda folder: sys.exit(3),
    "it is believed": lambda folder: "fine",
}


@pytest.mark.parametrize("fault", list(WEAK))
def test_a_weakness_is_found(fault, tmp_path):
    outcome = examine(Hostile("planted", fault, lambda folder: None, WEAK[fault]), tmp_path / "at", limit=5)
    assert outcome.fault == fault and not (tmp_path / "at").exists()


def test_what_was_poisoned_is_said_and_what_was_not_is_harmless(tmp_path):
    def same(folder: Path, printed: str) -> str | None:
        return None if printed == "84.00\n" else "another accuracy"

    for text, fault in (("84.00", None), ("99.00", "another accuracy")):
        hostile = Hostile("planted", text, lambda folder: None, lambda folder, text=text: text, same)
        outcome = examine(hostile, tmp_path / "at")
        assert (outcome.came, outcome.fault) == (HARMLESS, fault)


def test_a_refusal_has_a_sentence_and_is_a_fault_where_it_is_a_users_right(tmp_path):
    refused = Hostile("planted", "x", lambda folder: (folder / "x").touch(), complain, lambda folder, printed: None)
    outcome = examine(refused, tmp_path / "at")
    assert (outcome.came, outcome.fault) == (REFUSED, None) and "--seeds 1,2" in outcome.said
    right = Hostile("planted", "x", refused.write, complain, refused.harmless, must_work=True)
    assert examine(right, tmp_path / "at").fault == "it is refused, but is a user's right"


def test_the_page_has_the_committed_outcomes():
    outcomes = pd.read_csv(ROOT / "results/reliability/hostile.csv", keep_default_na=False)
    assert len(outcomes) >= 500 and (outcomes["fault"] == "").all() and set(outcomes["came"]) == {REFUSED, HARMLESS}
    known = {"kind", "name", "came", "said", "fault"}
    table = hostile.summary([Outcome(**row | {"fault": row["fault"] or None}) for row in
                             outcomes[sorted(known)].to_dict("records")])
    assert tabulate(table, headers="keys", tablefmt="pipe") in (ROOT / "docs/reliability.md").read_text()


def test_every_fortieth_input_does_no_harm():
    program = [sys.executable, str(Path(__file__).with_name("hostile.py")), "--every", "40"]
    ended = subprocess.run(program, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr[-2000:]
    assert "together" in ended.stdout
