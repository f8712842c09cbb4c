"""What captions and sentences say, against records made by hand (see `reporting`)."""

import numpy as np
from reporting import ROWS, make_grid, make_store

from pfedmoap.experiments import table1
from pfedmoap.reports import captions, tables

OURS = "pFedMoAP (λ = 0.5)"


def test_caption_says_what_was_run(quick):
    caption = tables.caption(*quick)
    for fact in ("nature in place of Flowers102, digits in place of DTD", "not comparable one by one", "ddof 0",
                 "2 seeds (1, 2)",
                 "after the last round", "CLIP embedded_clip (shipped weights)", "clients 10 (digits: 5)", "shots 8",
                 "participation 100 %", "label_disjoint"):
        assert fact in caption, fact
    rounds = next(iter(quick[0])).rounds
    assert f"rounds {rounds} (paper: 10 (CoOp: 5))" in caption
    assert "shots 16 (paper" not in caption


def test_caption_of_the_papers_own_settings(paper):
    caption = tables.caption(*paper)
    assert "on Flowers102, DTD." in caption and "CLIP RN50-quickgelu (openai)" in caption
    assert "rounds 10 (CoOp: 5)" in caption and "reading of section 4.1" in caption
    assert "in place of" not in caption and "Not as in the paper" not in caption


def test_caption_names_departures_in_the_paper_profile(tmp_path):
    weights = tmp_path / "own.safetensors"
    weights.write_bytes(b"x")
    grid = make_grid("paper", rounds=2, weights=str(weights))
    caption = tables.caption(grid, make_store(tmp_path, grid))
    assert "rounds 2 (paper: 10 (CoOp: 5))" in caption and "weights own.safetensors (paper: openai)" in caption
    assert str(tmp_path) not in caption


def test_caption_says_what_the_data_were_short_of(tmp_path):
    grid = make_grid("paper")
    store = make_store(tmp_path, grid, source="x, not CoOp's split", notes=["classes with fewer than 16: rose (3)"])
    caption = tables.caption(grid, store)
    assert "Not CoOp's split: DTD, Flowers102." in caption
    assert caption.count("Classes with fewer than 16: rose (3).") == 1


def test_captions_of_every_profile_of_table_1():
    for profile in ("smoke", "quick", "paper"):
        grid = table1(profile)
        assert ("in place of" in captions._subject(grid)) == (profile != "paper")
        assert ("Not as in the paper" in captions._departures(grid)) == (profile != "paper")


def test_reading_says_where_it_leads_and_where_not(quick):
    text = tables.reading(*quick)
    assert f"{OURS} has a higher mean than the best other method on 1 of 2 columns (nature +15.0 points)" in text
    assert "not on digits (CoOp 85.0 %, it 80.0 %)" in text
    assert "2 seeds cannot tell methods apart: the smallest p of a test over seeds is 0.5" in text
    assert "ahead" not in text
    assert f"Mean over the columns: {OURS} 87.5 %, CoOp 82.5 %, ZS-CLIP 50.0 %." in text
    assert "published" not in text


def test_reading_says_ahead_only_with_its_test(tmp_path):
    grid = make_grid(seeds=range(1, 7))
    text = tables.reading(grid, make_store(tmp_path, grid))
    assert f"On the mean over the columns {OURS} is ahead of CoOp (+10.3, " in text
    assert ", ZS-CLIP (+36.3) with p 0.031." in text and "over 6 seeds, corrected for 2 comparisons" in text
    behind = tables.reading(*_swapped(grid, tmp_path / "swapped"))
    assert "; it is behind CoOp (-10.3, " in behind and "ahead of CoOp" not in behind


def _swapped(grid, folder):
    """A grid in which CoOp and pFedMoAP have changed places."""
    store = make_store(folder, grid)
    for column in grid.columns:
        for mine, other in zip(grid.cells[OURS, column.title], grid.cells["CoOp", column.title], strict=True):
            ours, theirs = store.get(mine), store.get(other)
            store.put(mine, ours | {"rounds": theirs["rounds"]})
            store.put(other, theirs | {"rounds": ours["rounds"]})
    return grid, store


def test_reading_with_the_published_numbers(paper):
    off = np.array([60 - 62.17, 40 - 40.21, 80 - 70.14, 85 - 44.23, 95 - 98.41, 80 - 89.13])
    assert (f"from {off.min():+.1f} to {off.max():+.1f} points ({np.abs(off).mean():.1f} in size"
            in tables.reading(*paper))


def test_reading_without_rivals_without_pfedmoap_and_with_one_seed(tmp_path):
    for number, (rows, seeds) in enumerate([(ROWS[:2], (1, 2)), (ROWS[2:], (1, 2)), (ROWS, (1,))]):
        grid = make_grid(rows=rows, seeds=seeds)
        text = tables.reading(grid, make_store(tmp_path / str(number), grid))
        assert ("a higher mean" in text) == (len(rows) == 3)
        assert ("One seed cannot tell" in text) == (len(seeds) == 1)
        assert "ahead" not in text


