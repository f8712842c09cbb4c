"""The command line, in this process wherever that is possible."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from interrupts import hearing_interrupts

from pfedmoap.commands import options
from pfedmoap.commands.app import main
from pfedmoap.errors import UserError
from pfedmoap.experiments import Experiment
from pfedmoap.methods import METHODS

SMALL = ("--profile", "smoke", "--dataset", "digits", "--clients", "2", "--rounds", "1", "--shots", "2")


@pytest.fixture(scope="module")
def cache(features_cache) -> Path:
    return Path(features_cache)


@pytest.fixture
def call(capsys, tmp_path, cache):
    """Calls `pfedmoap` with folders of the test's own for a run; returns exit code, standard output and error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        folders = ("--results", str(tmp_path / "records"), "--cache-dir", str(cache)) if arguments[0] == "run" else ()
        with pytest.raises(SystemExit) as left:
            main([*arguments, *folders])
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    return call


def test_version_and_help_answer_without_importing_torch():
    code = "import sys; from pfedmoap.commands.app import main\ntry: main()\nfinally: assert 'torch' not in sys.modules"
    for option in ("--version", "--help"):
        assert subprocess.run([sys.executable, "-c", code, option], capture_output=True, check=False).returncode == 0


def test_version_names_the_package(call):
    assert call("--version") == (0, "pfedmoap 0.1.0\n", "")


def test_every_setting_is_an_option_once(monkeypatch, call):
    fields = [item.name for owner in (Experiment, *METHODS.values()) for item in dataclasses.fields(owner)]
    written = [option.name for option in options.setting_options()]
    assert set(written) | set(options.BY_HAND) == set(fields)
    assert not [name for name, count in Counter(written).items() if count > 1]

    monkeypatch.setenv("COLUMNS", "200")
    help = call("run", "--help")[1]
    for name in fields:
        assert "--" + name.replace("_", "-") in help
    assert "[smoke: 2, quick: 4, long: 10, paper: 10]" in help  # of --rounds


def test_settings_of_methods_and_experiments_do_not_collide():
    ours = {item.name for item in dataclasses.fields(Experiment)}
    reserved = {"profile", "force", "as_json", "data_root", "results", "cache_dir", "device", "jobs", "together"}
    for method in METHODS.values():
        assert not {item.name for item in dataclasses.fields(method)} & (ours | reserved)


def test_json_is_the_only_thing_on_standard_output(call):
    code, out, err = call("run", *SMALL, "--json")
    record = json.loads(out)
    assert code == 0
    assert record["experiment"]["clients"] == 2 and record["experiment"]["method"]["name"] == "pfedmoap"
    assert record["seconds"]["total"] > 0
    (last,) = record["rounds"]
    assert len(last["accuracies"]) == 2
    assert last["accuracy"] == pytest.approx(sum(last["accuracies"]) / 2) == record["accuracy"]
    assert "data: " in err


def test_several_runs_are_a_json_list_then_a_table_and_never_run_twice(call):
    arguments = ("run", *SMALL, "--method", "all", "--seed", "1,2", "--jobs", "1")
    first = json.loads(call(*arguments, "--json")[1])
    ran = [(record["experiment"]["method"]["name"], record["experiment"]["seed"]) for record in first]
    assert ran == [(name, seed) for name in METHODS for seed in (1, 2)]

    code, out, err = call(*arguments)
    assert code == 0
    assert f"{len(ran)} of {len(ran)} runs are already stored" in err
    cells = {cells[1]: cells[2] for line in out.splitlines() if len(cells := [*map(str.strip, line.split("│"))]) > 2}
    for method in METHODS.values():
        own = [record for record in first if record["experiment"]["method"]["name"] == method.name]
        mean = 100 * sum(record["accuracy"] for record in own) / 2
        spread = 100 * abs(own[0]["accuracy"] - own[1]["accuracy"]) / 2
        assert cells[method.title] == f"{mean:.2f} ± {spread:.2f}"


def test_seeds_as_one_batch_are_asked_for_in_one_word(call):
    arguments = ("run", *SMALL, "--method", "promptfl,pfedmoap", "--seed", "1,2", "--json", "--seeds-per-batch", "2")
    records = json.loads(call(*arguments)[1])
    assert [record["seeds_per_batch"] for record in records] == [2] * 4


def test_names_are_taken_for_what_they_obviously_mean(call):
    arguments = ("run", *SMALL, "--dataset", "Digits", "--method", "pFedMoAP,PromptFL+FT,ZS-CLIP", "--profile", "Smoke")
    records = json.loads(call(*arguments, "--json")[1])
    assert [record["experiment"]["method"]["name"] for record in records] == ["pfedmoap", "promptfl_ft", "zero_shot"]
    assert {record["experiment"]["dataset"] for record in records} == {"digits"}


def test_force_runs_again(call):
    first = json.loads(call("run", *SMALL, "--json")[1])
    again = json.loads(call("run", *SMALL, "--json", "--force")[1])
    assert again["accuracy"] == first["accuracy"]
    assert again["seconds"] != first["seconds"]


def test_settings_that_are_given_reach_the_experiment_and_others_are_the_profiles(call):
    settings = ("--lam", "0.25", "--experts", "1,0", "--gate", "none", "--attention-scale", "none")
    config = json.loads(call("run", *SMALL, *settings, "--json")[1])["experiment"]
    assert config["shots"] == 2 and config["local_epochs"] == 1 and config["context_tokens"] == 4
    given = {"lam": 0.25, "experts": [1, 0], "gate": "none", "attention_scale": None}
    assert config["method"].items() >= given.items()
    assert config["method"]["d_gating"] == 128


def test_a_setting_goes_to_the_methods_that_have_it():
    built = options.build_experiments("digits", ["promptfl", "pfedmoap", "promptfl"], ["3"], "smoke", {"lam": 0.1})
    assert [experiment.method for experiment in built] == [METHODS["promptfl"](), METHODS["pfedmoap"](lam=0.1)]


@pytest.mark.parametrize(
    "text, hint, value",
    [
        ("none", int | None, None),
        ("3", int | None, 3),
        ("3", float, 3.0),
        ("1e-3", float | None, 0.001),
        ("9", int | tuple[int, ...], 9),
        ("3,0,2", int | tuple[int, ...], (3, 0, 2)),
        ("none", str, "none"),
        ("None", str | None, None),
    ],
)
def test_text_becomes_the_value_that_its_type_allows(text, hint, value):
    parsed = options.parse(text, hint, "name")
    assert parsed == value and type(parsed) is type(value)


def test_text_of_another_type_is_refused():
    with pytest.raises(UserError, match="experts must be a whole number or a list such as 3,3,2, not '1,x'"):
        options.parse("1,x", int | tuple[int, ...], "experts")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["run", "--lamb", "1"], "No such option '--lamb'. (Did you mean "),
        (["run", "--method", "pfedmaop"], "There is no method 'pfedmaop'; did you mean 'pfedmoap'?"),
        (["run", "--method", "coop", "--lam", "1"], "coop has no setting --lam: it belongs to pfedmoap."),
        (["run", "--dataset", "natur"], "There is no data set 'natur'; did you mean 'nature'?"),
        (["run", "--profile", "fast"], "There is no profile 'fast'; known: smoke, quick, long, paper."),
        (["run", "--rounds", "0"], "rounds must be a whole number >= 1, not 0."),
        (["run", "--rounds", "many"], "rounds must be a whole number, not 'many'."),
        (["run", "--seed", "x"], "seed must be a whole number, not 'x'."),
        (["run", "--lr", "nan"], "lr must be a number >= 0, not nan."),
        (["run", "--method", ","], "Name at least one method and one seed."),
        (["run", "--jobs", "-1"], "Invalid value for '--jobs': -1 is not in the range x>=0."),
        (["run", "--heads", "7"], "heads must be a divisor of d_gating (128), not 7."),
        (["run", "--clients", "60"], "20 classes cannot be dealt to 60 clients"),
        (["run", "--dataset", "caltech101"], "say which folder holds it (--data-root DIR)"),
        (["run", "--dataset", "caltech101", "--data-root", "/no/such"], "the data root /no/such is not a folder"),
        (["run", "--weights", "/no/such"], "is neither a file nor a pretrained tag of embedded_clip"),
        (["run", "--model", "RN51"], "open_clip knows no model 'RN51'"),
        (["run", "--device", "toaster"], "Device 'toaster' cannot be used here"),
        (["reproduce", "table1", "-p", "only-a-name"], "-p NAME=VALUE, or -p NAME VALUE"),
        (["reproduce", "--profile", "fast"], "There is no profile 'fast'"),
        (["rum"], "No such command 'rum'. Did you mean 'run'?"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(call, arguments, message):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    *_, last = err.splitlines()
    assert last.startswith("error: ") and message in last
    assert "Traceback" not in err


def test_a_results_folder_that_cannot_be_written_is_named(capsys, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as left:
        main(["run", *SMALL, "--results", str(tmp_path / "file" / "records")])
    assert left.value.code == 2
    assert "another folder with --results DIR" in capsys.readouterr().err


def test_what_could_not_be_done_as_asked_is_said(call):
    err = call("run", *SMALL, "--method", "zero_shot", "--shots", "500")[2]
    assert "note: classes with fewer than 500 training images, all of which are used: " in err


def test_info_describes_what_is_there_and_what_is_missing(call, tmp_path):
    code, out, err = call("info", "--json", "--weights", "/no/such", "--data-root", str(tmp_path))
    found = json.loads(out)
    assert code == 0
    assert "is neither a file nor a pretrained tag" in found["model"]["missing"]
    assert found["data sets"]["digits"] == "embedded"
    assert "was not found under" in found["data sets"]["caltech101"]
    assert "feature cache" in found["on disk"]

    out = call("info")[1]
    for line in ("pfedmoap", "token width e", "logit scale s", "QuickGELU"):
        assert line in out


@pytest.mark.parametrize(("model", "path"), [
    ("embedded_clip", "shared prefix: causal"),
    ("ViT-B-16-SigLIP", "open_clip's own encoder: its attention is not causal"),
    ("RN51", None)])
def test_info_says_which_way_prompts_go_also_without_weights(call, model, path):
    found = json.loads(call("info", "--json", "--model", model)[1])["model"]
    assert ("missing" in found) == (model != "embedded_clip")
    assert found.get("prompts go through", "").startswith(path or "") and (path or "prompts go through" not in found)


def test_an_interrupted_run_says_so_and_goes_on_where_it_stopped(tmp_path, cache, call):
    """A real process, a real Ctrl-C in the middle of a run, and the same command again."""
    arguments = ["run", *SMALL, "--rounds", "100", "--json"]
    command = [sys.executable, "-m", "pfedmoap", *arguments]
    command += ["--results", str(tmp_path / "records"), "--cache-dir", str(cache)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=os.environ | {"OMP_NUM_THREADS": "1"},
                               preexec_fn=hearing_interrupts)  # fmt: skip
    try:
        deadline = time.monotonic() + 90
        while not list(tmp_path.glob("records/*.checkpoint.safetensors")):
            assert started.poll() is None and time.monotonic() < deadline, started.communicate()
            time.sleep(0.02)
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=60)
    finally:
        started.kill()
    assert (started.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "interrupted; what is finished is kept, run the same again to go on"
    assert "Traceback" not in err

    code, out, err = call(*arguments)
    assert code == 0 and len(json.loads(out)["rounds"]) == 100
    assert "/100 " in err and "| 0/100 " not in err  # the bar starts with the rounds that were done
    assert not list(tmp_path.glob("records/*.checkpoint.safetensors"))
