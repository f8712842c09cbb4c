"""The package as a wheel installs it, in an empty folder and without the repository: notebooks come out, and run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pandas as pd
import pytest

from pfedmoap.commands import main
from pfedmoap.system.paths import NOTEBOOKS, ROOT

NEEDED = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "NOTICE")
NAMES = {path.name for path in NOTEBOOKS.glob("*.ipynb")}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """What is in site-packages after `pip install`; built from a copy, as a build leaves files behind."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    nothing_made = shutil.ignore_patterns("__pycache__", "records", "*.pyc")
    for name in ("pfedmoap", "notebooks", "results"):
        shutil.copytree(ROOT / name, source / name, ignore=nothing_made)
    for name in NEEDED:
        shutil.copy2(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*build, "-w", str(folder), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def run(site, tmp_path, features_cache):
    """Calls the command in an empty folder, or in one inside it."""
    environment = os.environ | {"PYTHONPATH": str(site), "PFEDMOAP_CACHE": features_cache}

    def call(*arguments: str, inside: str = ".", code: int = 0) -> subprocess.CompletedProcess:
        done = subprocess.run([sys.executable, "-m", "pfedmoap", *arguments], cwd=tmp_path / inside, env=environment,
                              capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return done

    return call


def test_notebooks_come_with_their_results_and_run_where_they_are(run, tmp_path):
    run("notebooks", "here")
    here = tmp_path / "here"
    assert {path.name for path in here.glob("*.ipynb")} == NAMES
    assert {path.name for path in (here / "results").iterdir()} == {"quick", "long"}
    done = run("reproduce", "00", "--profile", "smoke", inside="here")
    assert "figures/smoke/start_here_curves.png" in done.stdout
    assert pd.read_csv(here / "results/smoke/start_here.csv")["accuracy"].between(0, 100).all()
    assert "verified" in run("verify", "printed-table1", "kit-tables-agree", inside="here").stdout
    judged = run("verify", "kit-arithmetic", "--run", "--json", inside="here").stdout
    assert "its tests are in a clone of the project" in judged


def test_without_notebooks_it_says_what_brings_them(run):
    assert "error: There are no notebooks in " in (error := run("reproduce", "table1", code=2).stderr)
    assert "`pfedmoap notebooks " in error and error.count("\n") == 1


def test_a_notebook_of_ones_own_is_kept_unless_forced(tmp_path, capsys):
    """In a clone, whose results are found from everywhere."""
    (tmp_path / "00_start_here.ipynb").write_text("mine")
    for force, content in (([], "mine"), (["--force"], (NOTEBOOKS / "00_start_here.ipynb").read_text())):
        with pytest.raises(SystemExit) as left:
            main(["notebooks", str(tmp_path), *force])
        assert left.value.code == 0
        assert (tmp_path / "00_start_here.ipynb").read_text() == content
        assert ("kept, as they differ" in capsys.readouterr().err) is not bool(force)
    assert {path.name for path in tmp_path.iterdir()} == NAMES
