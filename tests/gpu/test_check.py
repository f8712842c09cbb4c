"""The check of a GPU: on the pretended one it finds nothing wrong, and no stage stops another, however it ends."""

import csv
import json
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import check
import psutil
import pytest
import torch
import wheels
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from torch.utils import backend_registration

check.find_modules()
import correctness  # noqa: E402
import planted_stages  # noqa: E402
import roofline  # noqa: E402
from stages import Sizes  # noqa: E402
from workload import Step, Update, random_clip  # noqa: E402

from pfedmoap import graphs  # noqa: E402

# What other packages load where it is there, and do without where it is not.
OPTIONAL = {"cloudpickle", "defusedxml", "dill", "hypothesis", "narwhals", "pyarrow", "pytest-xdist", "execnet",
            "sortedcontainers", "platformdirs", "rich", "py", "pfedmoap", "setuptools"}


@pytest.fixture(scope="module")
def pretended(tmp_path_factory) -> Path:
    """The folder of what the check finds on the pretended GPU."""
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this PyTorch knows no devices that are written in Python")
    folder = tmp_path_factory.mktemp("pretended")
    command = [sys.executable, check.HERE / "check.py", "--pretend", "--out", folder, "--minutes", "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr + (folder / "summary.md").read_text()
    return folder


def test_every_stage_ends_on_the_pretended_gpu_and_says_what_it_cannot_do_there(pretended):
    records = {stage.name: json.loads((pretended / f"{stage.name}.json").read_text()) for stage in check.STAGES}
    assert {record["status"] for record in records.values()} == {check.DONE}
    with open(pretended / "figures.csv") as file:
        figures = list(csv.DictReader(file))
    assert {figure["stage"] for figure in figures} == records.keys()
    compared = {figure["what"] for figure in figures if figure["fine"] == "True"}
    assert {"prompts", "gate", "step, loss", "seeds"} <= compared
    left_out = {figure["what"] for figure in figures if figure["note"] == "not on this device"}
    assert {"CUDA graphs", "1 client, tf32", "1 client, bf16, as a CUDA graph", "1 client, fp32, peak memory",
            "test_bf16_on_a_gpu_keeps_the_accuracy"} <= left_out
    assert all(figure["value"] == "" for figure in figures if figure["what"] in left_out)
    summary = (pretended / "summary.md").read_text()
    assert all(f"## {stage.title}" in summary for stage in check.STAGES)


def closure(names) -> set[str]:
    """Installed packages with all that they ask for."""
    found, ahead = set(), list(names)
    while ahead:
        name = canonicalize_name(ahead.pop())
        if name not in found:
            found.add(name)
            try:
                asked = [Requirement(each) for each in metadata.distribution(name).requires or ()]
            except metadata.PackageNotFoundError:
                continue
            ahead += [each.name for each in asked if not each.marker or each.marker.evaluate({"extra": ""})]
    return found


def test_it_imports_nothing_but_pytorch_and_what_the_wheels_hold(pretended):
    imported = {name for stage in check.STAGES
                for name in json.loads((pretended / f"{stage.name}.json").read_text())["imports"]}
    owners = metadata.packages_distributions()
    packages = {canonicalize_name(owner) for name in imported for owner in owners.get(name, ())}
    assert {"open-clip-torch", "timm", "pandas", "torch", "pytest"} <= packages
    assert packages - closure(["torch", "torchvision"]) - OPTIONAL - set(wheels.names()) == set()


def test_the_wheels_are_those_of_the_lock_and_all_that_they_ask_for():
    assert len(wheels.locked()) == len(wheels.names())
    there = closure(["torch", "torchvision"]) | set(wheels.names())
    # Not imported: the hub's command line and downloads, and what dp-accounting and scikit-learn have to be there for.
    assert closure(wheels.names()) - there == {"click", "hf-xet", "scipy"}


def ends(process: int) -> bool:
    """Whether a process is gone, or soon will be."""
    for _ in range(100):
        try:
            if psutil.Process(process).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.1)
    return False


def test_a_stage_that_fails_hangs_or_dies_stops_no_other(tmp_path):
    stages = [check.Stage("planted_stages", name, f"It {name}", share, correctness=name == "is_right")
              for name, share in (("fails", 0.9), ("hangs", 0.03), ("dies", 0.9), ("is_wrong", 0.9), ("is_right", 1.0))]
    records = check.run(stages, tmp_path, 120, str(tmp_path), pretend=False)
    assert [record["status"] for record in records] == ["failed", "timed out", "failed", "done", "done"]
    assert [len(record["figures"]) for record in records] == [1, 1, 1, 2, 1]  # what they had found is kept
    assert "nothing works on" in records[0]["why"] and records[2]["why"] == "exit code 9"
    assert ends(int((tmp_path / "child").read_text()))  # with the stage that started it
    assert json.loads((tmp_path / "hangs.json").read_text()) == records[1]
    summary = (tmp_path / "summary.md").read_text()
    assert "| It is_wrong | done, 2 wrong |" in summary and "| what is far off | 0.5 | 0.1 **wrong** |" in summary
    assert check.passed(stages, records)  # those that are wrong do not check for correctness
    for wrong in stages[:4]:
        asked = [stage._replace(correctness=stage is wrong) for stage in stages]
        assert not check.passed(asked, records), wrong.name


@pytest.mark.parametrize(("repeats", "expected"), [(True, [True, True]), (False, [True, False])])
def test_graphs_that_are_not_replayed_are_noticed(monkeypatch, repeats, expected):
    def capture(step):
        if not repeats:
            raise RuntimeError("operation not permitted when stream is capturing")
        return step

    monkeypatch.setattr(graphs, "capture_for", lambda device: capture)
    clip = random_clip("embedded_clip")
    sizes = Sizes("cpu", steps=graphs.PAYS + 1)
    assert [figure.fine for figure in correctness.replayed(Update(clip, 3, 1, sizes.steps), sizes)] == expected
    assert (roofline.as_graph(Step(clip, 3), clip) is None) == (not repeats)


def test_without_a_gpu_the_first_stage_says_so():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    (figure,) = correctness.here("cuda", False)
    assert figure.fine is False and "run with --pretend" in figure.note


def test_planted_stages_yield_what_the_check_reads():
    assert [figure.fine for figure in planted_stages.is_wrong("cpu", False)] == [False, False]
