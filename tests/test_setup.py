"""The files that set the project up agree with each other."""

import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pfedmoap.system.paths import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]


def by_name(requirements: list[str]) -> dict[str, Requirement]:
    return {canonicalize_name(item.name): item for item in map(Requirement, requirements)}


def make(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_dependency_has_one_exact_pin_that_satisfies_its_range():
    needed, pinned = by_name(PROJECT["dependencies"]), by_name(EXTRAS["pinned"])
    assert needed.keys() == pinned.keys()
    for name, pin in pinned.items():
        (exact,) = pin.specifier
        assert exact.operator == "==" and "*" not in exact.version, name
        assert needed[name].specifier.contains(exact.version), name


def test_conda_installs_python_and_leaves_the_rest_to_pip():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, _ = environment["dependencies"]
    assert environment["name"] == PROJECT["name"]
    python = Requirement(conda[0])
    assert python.name == "python" and str(python.specifier) == PROJECT["requires-python"]
    assert conda[1:] == ["pip"]


def test_the_package_ships_its_assets():
    assert PYPROJECT["tool"]["setuptools"]["package-data"]["pfedmoap.embedded"] == ["assets/*"]
    assert PYPROJECT["tool"]["setuptools"]["package-data"]["pfedmoap.data"] == ["cards.toml"]
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")


TARGETS = ("help", "install", "lock", "sbom", "reproduce", "test", "book", "notebooks", "lab", "bench", "gpu-check",
           "gpu-wheels", "embedded-clip", "clean")


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_its_targets_and_lists_them(target):
    assert make("--dry-run", target).returncode == 0
    assert re.search(rf"make {target} ", make("help").stdout)


def test_make_alone_shows_the_help():
    assert make().stdout == make("help").stdout


def test_make_reproduce_passes_the_profile_and_the_arguments():
    commands = make("--dry-run", "reproduce", "PROFILE=smoke", "ARGS=table1 --seeds 1").stdout
    assert "-m pfedmoap reproduce --profile smoke table1 --seeds 1" in commands


def an_old_python(folder) -> str:
    """A command that answers as Python 3.10 does."""
    path = folder / "python3.10"
    path.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.10.1 && exit\nexit 1\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    "setting, message",
    [
        (lambda folder: "PYTHON=no-such-python", "no-such-python was not found: install Python 3.11 or newer"),
        (lambda folder: f"PYTHON={an_old_python(folder)}", "is Python 3.10.1, but 3.11 or newer is needed"),
        (lambda folder: "LEAST_GB=1000000000", "GB are free on this disk"),
    ],
)
def test_make_install_says_in_one_sentence_what_is_missing(setting, message, tmp_path):
    python = [] if "PYTHON" in (given := setting(tmp_path)) else [f"PYTHON={sys.executable}"]
    answer = make("install", f"VENV={tmp_path}/venv", given, *python)
    assert answer.returncode != 0
    assert message in answer.stderr and answer.stderr.count("error:") == 1 and "Traceback" not in answer.stderr
    assert not (tmp_path / "venv").exists()


def test_an_interrupted_installation_is_taken_up_again(tmp_path):
    """pip fails at first; nothing says that the installation is complete, and the next call installs."""
    runs, commands = installations(tmp_path, ("1", "0", "0"))
    assert [run.returncode == 0 for run in runs] == [False, True, True]
    locked, package = "--require-hashes -r requirements/locked.txt", "--no-deps -e ."
    assert [command.partition("version-check ")[2] for command in commands] == [locked, locked, package]  # and no more


def test_wheels_of_another_index_are_held_to_the_pins(tmp_path):
    runs, (command,) = installations(tmp_path, ("0",), "TORCH_INDEX=https://example.org/cpu")
    assert runs[0].returncode == 0 and "no GPU was found" not in runs[0].stderr.decode()
    assert f"-c {tmp_path}/venv/pins.txt --extra-index-url https://example.org/cpu -e .[pinned,test]" in command


def installations(tmp_path, fails, *settings):
    """`make install` with a pip that only takes notes, and fails where told: the runs, and what they asked for."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    log = tmp_path / "log"
    python.write_text(f'#!/bin/sh\necho "$*" >> {log}\ncase "$*" in *install*) exit ${{PIP_FAILS:-0}};; esac\n')
    python.chmod(0o755)
    arguments = ["make", "install", f"VENV={tmp_path}/venv", f"PYTHON={sys.executable}", "LEAST_GB=0", *settings]
    runs = [
        subprocess.run(arguments, cwd=ROOT, capture_output=True, env=os.environ | {"PIP_FAILS": each}, check=False)
        for each in fails
    ]
    return runs, [line for line in log.read_text().splitlines() if "pip install" in line]


def test_continuous_integration_runs_the_test_command():
    script = ROOT / ".ci" / "run"
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert commands == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "make check", "make test"]
    assert os.access(script, os.X_OK)
