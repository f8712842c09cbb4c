"""The folder to archive: complete, true of its files, and an RO-Crate by the words of other programs."""

import hashlib
import json

import pytest
from PIL import Image
from reporting import make_grid, make_store

from pfedmoap import __version__
from pfedmoap.commands import main
from pfedmoap.errors import UserError
from pfedmoap.experiments import GRIDS
from pfedmoap.reports import tables, write_crate


def one(profile="quick"):
    """Table 1: by hand."""
    return make_grid(profile)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Table 1's files and one figure; Table 2 is missing; records lie below."""
    for name in list(GRIDS)[2:]:
        monkeypatch.delitem(GRIDS, name)
    monkeypatch.setitem(GRIDS, "table1", one)
    results, figures = tmp_path / "results", tmp_path / "figures"
    grid = make_grid()
    tables.write_table(grid, make_store(results / "records", grid), results)
    figures.mkdir()
    Image.new("RGB", (40, 20)).save(figures / "table1.png")
    return results, figures


@pytest.fixture
def crate(folders, tmp_path):
    return write_crate("quick", *folders, tmp_path / "crate").parent


def graph(crate) -> dict[str, dict]:
    return {each["@id"]: each for each in json.loads((crate / "ro-crate-metadata.json").read_text())["@graph"]}


def test_every_file_is_described_and_every_description_has_its_file(crate):
    files = {name: each for name, each in graph(crate).items() if each["@type"] == "File"}
    there = {path.relative_to(crate).as_posix() for path in crate.rglob("*") if path.is_file()}
    assert there == files.keys() | {"ro-crate-metadata.json"}
    assert {"results/table1.csv", "figures/table1.png", "report.html"} <= there
    assert {part["@id"] for part in graph(crate)["./"]["hasPart"]} == files.keys()
    for name, each in files.items():
        content = (crate / name).read_bytes()
        assert (each["contentSize"], each["sha256"]) == (str(len(content)), hashlib.sha256(content).hexdigest())


def test_it_says_how_a_table_was_made(crate):
    found = graph(crate)
    made = found["#table1"]
    assert made["name"] == "pfedmoap reproduce table1" and found[made["instrument"]["@id"]]["version"] == __version__
    assert {"@id": "figures/table1.png"} in made["result"] and {"@id": "report.html"} not in made["result"]
    assert "seeds: 1, 2" in made["description"] and "#table2" not in found


def test_all_that_it_refers_to_is_in_it(crate):
    found = graph(crate)

    def references(value):
        if isinstance(value, dict):
            yield from [value["@id"]] if value.keys() == {"@id"} else references(list(value.values()))
        elif isinstance(value, list):
            for each in value:
                yield from references(each)

    assert set(references(list(found.values()))) - found.keys() == {"https://w3id.org/ro/crate/1.1"}


def test_an_earlier_crate_is_replaced_and_nothing_else_is(crate, folders, tmp_path):
    (folders[0] / "table1.tex").unlink()
    write_crate("quick", *folders, crate)
    assert not (crate / "results/table1.tex").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter").write_text("kept")
    with pytest.raises(UserError, match="holds something else than a crate"):
        write_crate("quick", *folders, tmp_path / "mine")
    assert (tmp_path / "mine/letter").read_text() == "kept"


def test_without_tables_nothing_is_written(tmp_path):
    with pytest.raises(UserError, match="pfedmoap reproduce --profile quick"):
        write_crate("quick", tmp_path, tmp_path, tmp_path / "crate")
    assert not (tmp_path / "crate").exists()


def test_the_command_writes_it(folders, tmp_path, capsys):
    results, figures = map(str, folders)
    with pytest.raises(SystemExit) as ended:
        main(["report", "--results", results, "--figures", figures, "--crate", str(tmp_path / "crate")])
    assert ended.value.code == 0 and capsys.readouterr().out.endswith("ro-crate-metadata.json\n")


def test_the_rocrate_library_reads_it(crate):
    library = pytest.importorskip("rocrate.rocrate", reason="needs the extra artefact: pip install -e '.[artefact]'")
    read = library.ROCrate(str(crate))
    assert {each.id for each in read.data_entities} == {part["@id"] for part in graph(crate)["./"]["hasPart"]}
    assert read.name == "Results of pfedmoap, profile quick"
