"""The files by which the kit is found, cited and archived agree with each other and with their schemas."""

import csv
import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib import resources

import pytest
import yaml

from pfedmoap import __version__
from pfedmoap.reports import crate
from pfedmoap.system.paths import ROOT

CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
CODEMETA = json.loads((ROOT / "codemeta.json").read_text())
ZENODO = json.loads((ROOT / ".zenodo.json").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PAPER = CITATION["preferred-citation"]
EXTRA = "needs the extra artefact: pip install -e '.[artefact]'"


def test_version_name_and_licence_are_said_once():
    assert {CITATION["version"], CODEMETA["version"], ZENODO["version"]} == {__version__}
    assert CODEMETA["name"] == PROJECT["name"] and CITATION["title"] == ZENODO["title"]
    assert CODEMETA["description"] == ZENODO["description"] == PROJECT["description"]
    assert {CITATION["license"], ZENODO["license"], CODEMETA["license"].rpartition("/")[2],
            crate.LICENCE.rpartition("/")[2]} == {PROJECT["license"]}
    assert CITATION["keywords"] == CODEMETA["keywords"] == ZENODO["keywords"]
    (maker,) = CODEMETA["author"]
    assert CITATION["authors"] == [{"name": maker["name"]}] == ZENODO["creators"]


def test_the_paper_and_its_authors_are_the_same_everywhere():
    article = CODEMETA["referencePublication"]
    named = [f"{each['given-names']} {each['family-names']}" for each in PAPER["authors"]]
    assert named == [f"{each['givenName']} {each['familyName']}" for each in article["author"]] == list(crate.AUTHORS)
    assert PAPER["title"] == article["name"] == crate.TITLE and PAPER["url"] == article["url"]
    assert article["sameAs"] == crate.PAPER and str(PAPER["year"]) == article["datePublished"]
    (preprint,) = PAPER["identifiers"]
    number = preprint["value"].removeprefix("arXiv:")
    assert crate.PAPER.endswith(f"/{number}")
    assert preprint["value"] in {each["identifier"] for each in ZENODO["related_identifiers"]}
    assert f"*{PAPER['title']}*" in " ".join((ROOT / "README.md").read_text().split())


def test_the_photographs_source_is_named_where_they_are_archived():
    notice = (ROOT / "NOTICE").read_text()
    derived = [each["identifier"] for each in ZENODO["related_identifiers"] if each["relation"] == "isDerivedFrom"]
    assert derived and all(f"https://doi.org/{identifier}" in notice for identifier in derived)


def test_every_licence_text_that_the_notice_names_is_shipped():
    named = {word for word in (ROOT / "NOTICE").read_text().split() if "/LICENSE-" in word}
    assert named == {path.relative_to(ROOT).as_posix() for path in ROOT.glob("pfedmoap/embedded/assets/LICENSE-*")}
    assert len(named) == 2
    assert "Apache License" in (ROOT / "pfedmoap/embedded/assets/LICENSE-Apache-2.0.txt").read_text()
    assert "Princeton University" in (ROOT / "pfedmoap/embedded/assets/LICENSE-WordNet-3.0.txt").read_text()


def test_the_citation_file_fits_its_schema(tmp_path):
    pytest.importorskip("check_jsonschema", reason=EXTRA)
    wrong = tmp_path / "CITATION.cff"
    wrong.write_text((ROOT / "CITATION.cff").read_text().replace("cff-version", "version"))
    codes = [subprocess.run([sys.executable, "-m", "check_jsonschema", "--builtin-schema",
                             "vendor.citation-file-format", str(path)], capture_output=True, check=False).returncode
             for path in (ROOT / "CITATION.cff", wrong)]
    assert codes == [0, 1]


def test_codemeta_uses_the_terms_of_codemeta_3():
    """As eossr's table of CodeMeta 3 lists them; its own validator asks for more, which only its archive needs."""
    schema = pytest.importorskip("eossr.metadata.schema", reason=EXTRA)
    with (resources.files(schema) / "escape_codemeta_crosswalk.csv").open(encoding="utf-8") as table:
        terms = {row["codemeta-3.0"] for row in csv.DictReader(table, delimiter=";")}
    assert CODEMETA["@context"].endswith("codemeta/3.0") and CODEMETA["type"] == "SoftwareSourceCode"
    assert CODEMETA.keys() - {"@context", "type"} <= terms


def test_zenodo_would_take_its_description():
    """By Zenodo's own schema, which eossr fetches."""
    zenodo = pytest.importorskip("eossr.metadata.zenodo", reason=EXTRA)
    requests = pytest.importorskip("requests")
    try:
        zenodo.zenodo_deposit_schema()
    except requests.exceptions.RequestException as error:
        pytest.skip(f"Zenodo's schema cannot be fetched: {type(error).__name__}")
    zenodo.validate_zenodo_metadata_deposit(ZENODO)
    with pytest.raises(zenodo.ZenodoMetadataValidationError):
        zenodo.validate_zenodo_metadata_deposit(ZENODO | {"access_right": "anybody"})


def test_the_linter_finds_nothing_in_the_dockerfile(tmp_path):
    linter = shutil.which("hadolint", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]))
    if linter is None:
        pytest.skip(EXTRA)
    wrong = tmp_path / "Dockerfile"
    wrong.write_text((ROOT / "Dockerfile").read_text().replace("-bookworm", "").replace(":3.11-slim", ""))
    found = [subprocess.run([linter, str(path)], capture_output=True, text=True, check=False)
             for path in (ROOT / "Dockerfile", wrong)]
    assert [each.returncode for each in found] == [0, 1] and found[0].stdout == "" and "DL3006" in found[1].stdout


def test_the_list_of_what_is_installed_is_a_valid_sbom(tmp_path):
    """As `make sbom` writes it, of a folder with one package."""
    pytest.importorskip("cyclonedx_py", reason=EXTRA)
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    (tmp_path / "requirements.txt").write_text("numpy==2.4.6\n")
    out = tmp_path / "sbom.json"
    subprocess.run([sys.executable, "-m", "cyclonedx_py", "requirements", "--pyproject", str(ROOT / "pyproject.toml"),
                    "--output-reproducible", "--output-file", str(out), str(tmp_path / "requirements.txt")],
                   capture_output=True, check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(out.read_text()) is None
    found = json.loads(out.read_text())
    assert found["metadata"]["component"]["name"] == "pfedmoap"
    assert [each["name"] for each in found["components"]] == ["numpy"]
