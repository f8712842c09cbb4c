"""ARTIFACT.md says what the committed results say."""

import pytest

from pfedmoap.commands import main
from pfedmoap.errors import UserError
from pfedmoap.experiments import GRIDS
from pfedmoap.reports import claims, expected, write_expected
from pfedmoap.reports.artefact import BEGIN, END
from pfedmoap.system.paths import ROOT

ARTIFACT = (ROOT / "ARTIFACT.md").read_text()


@pytest.fixture(scope="module")
def made() -> str:
    return expected()


def test_its_tables_are_those_of_the_committed_results(made):
    within = ARTIFACT.partition(BEGIN)[2].partition(END)[0].strip()
    assert within == made, "run pfedmoap report --artefact ARTIFACT.md"


def test_every_table_figure_and_claim_is_in_it(made):
    assert [name for name in GRIDS if f"`pfedmoap reproduce {name}`" not in made] == []
    assert [claim.id for claim in claims.read_ledger() if f"`{claim.id}`" not in made] == []


def test_a_cell_is_expected_as_printed_and_at_least_within_rounding(made):
    (line,) = [line for line in made.splitlines() if line.startswith("| ZS-CLIP ") and "53.8 ±" in line]
    assert line.count("± 0.2") == 5  # untrained: no spread over seeds


def test_what_stands_around_the_tables_stays(tmp_path, made):
    path = tmp_path / "ARTIFACT.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    with pytest.raises(SystemExit) as ended:
        main(["report", "--results", str(tmp_path), "--figures", str(tmp_path), "--artefact", str(path)])
    assert ended.value.code == 0
    assert path.read_text() == f"before\n{BEGIN}\n\n{made}\n\n{END}\nafter\n"


@pytest.mark.parametrize("text", [None, "no marks\n", f"{BEGIN}\n"])
def test_a_file_without_a_place_for_them_is_refused(tmp_path, text):
    path = tmp_path / "ARTIFACT.md"
    if text:
        path.write_text(text)
    with pytest.raises(UserError, match="has no place for the tables"):
        write_expected(path)
    assert (path.read_text() if text else None) == text
