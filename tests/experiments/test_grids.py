"""The grids of the paper: what each runs, in every profile, and which columns can be run."""

from dataclasses import replace

import numpy as np
import pytest
from reporting import make_record

from pfedmoap.errors import UserError
from pfedmoap.experiments import GRIDS, Column, Place, Store, from_profile, parse_settings, reachable, selection
from pfedmoap.federation import Federation
from pfedmoap.methods import METHODS, CoOp, PFedMoAP
from pfedmoap.released import RELEASED
from pfedmoap.reports import captions, clients, summary, tables

PROFILES = ("smoke", "quick", "paper")
CLIP_SETS = dict(model="RN50-quickgelu", weights="openai", clients=10, partition="label_disjoint", shots=16, rounds=10,
                 participation=1.0, local_epochs=5, batch_size=16, context_tokens=16, views=50)
PAPER = {  # section 4.1
    "flowers102": CLIP_SETS, "oxford_pets": CLIP_SETS, "food101": CLIP_SETS, "caltech101": CLIP_SETS, "dtd": CLIP_SETS,
    "cifar10": dict(model="RN50-quickgelu", clients=100, partition="dirichlet", alpha=0.5, shots=None, rounds=120,
                    participation=0.1, local_epochs=5, batch_size=32),
    "domainnet": dict(model="ViT-B-16-quickgelu", clients=30, partition="domain_dirichlet", alpha=0.3, shots=None,
                      rounds=25, participation=0.25, local_epochs=5, batch_size=32),
    "office_caltech10": dict(model="ViT-B-16-quickgelu", clients=20, partition="domain_dirichlet", alpha=0.3,
                             shots=None, rounds=25, participation=0.5, local_epochs=5, batch_size=32),
}
PAPER["cifar100"] = PAPER["cifar10"]


@pytest.mark.parametrize("dataset", PAPER)
def test_the_papers_settings(dataset):
    found = from_profile(dataset, PFedMoAP(), "paper")
    assert {name: getattr(found, name) for name in PAPER[dataset]} == PAPER[dataset]
    coop = from_profile(dataset, CoOp(), "paper")
    assert coop.rounds * coop.local_epochs == 25


@pytest.mark.parametrize("profile", PROFILES)
def test_what_a_user_would_pick_instead_stands_in_every_table_and_costs_nothing_twice(profile):
    runs = {name: {item.key for item in grid(profile) if item.method.plain} for name, grid in GRIDS.items()}
    for name in (name for name in GRIDS if name.startswith("table")):
        plain = [row for row in GRIDS[name](profile).rows if row.method.plain]
        assert {row.method.name for row in plain} == {name for name, method in METHODS.items() if method.plain}
        assert all(row.control and not row.settings for row in plain)
        assert runs[name] <= runs["table1"] | runs["table2"] | runs["table3"] | runs["table4"]


@pytest.mark.parametrize("profile", PROFILES)
def test_coop_has_the_budget_of_a_federated_client_outside_the_paper(profile):
    for dataset in ("nature", "digits", "mixed40", "domains", "office"):
        if profile != "paper":
            ours = from_profile(dataset, PFedMoAP(), profile)
            assert from_profile(dataset, CoOp(), profile).rounds == max(1, round(ours.rounds * ours.participation))


@pytest.mark.parametrize("dataset", ["domainnet", "office_caltech10", "flowers102"])
def test_the_papers_views_are_fresh_in_every_epoch_of_nearly_every_client(dataset):
    for method in (PFedMoAP(), CoOp()):
        found = from_profile(dataset, method, "paper")
        sampler = Federation.__new__(Federation)
        taken = np.zeros(found.clients)
        if method.everyone:
            taken += found.rounds
        else:
            from types import SimpleNamespace

            sampler.method, sampler.plan = method, SimpleNamespace(participation=found.participation)
            sampler.data, sampler.context = SimpleNamespace(clients=found.clients), SimpleNamespace(seed=1)
            for number in range(1, found.rounds + 1):
                taken[sampler.sample(number)] += 1
        assert (taken * found.local_epochs <= found.views).all()


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("profile", PROFILES)
def test_every_grid_has_every_cell_with_the_profiles_seeds(name, profile):
    grid = GRIDS[name](profile)
    assert grid.name == name and set(grid.cells) == {(r.title, c.title) for r in grid.rows for c in grid.columns}
    assert len({row.title for row in grid.rows}) == len(grid.rows)
    seeds = (1,) if profile == "smoke" else (1, 2, 3)
    assert all(tuple(item.seed for item in cell) == seeds for cell in grid.cells.values())
    assert len(list(grid)) == len(set(grid))


def test_the_grids_share_their_runs():
    first = set(GRIDS["table1"]("quick"))
    for name in ("table5", "table6", "table8", "figure3", "figure4"):
        assert first & set(GRIDS[name]("quick")), name
    assert set(GRIDS["table3"]("paper")) & set(GRIDS["table7"]("paper"))


def test_titles_and_places_of_the_domains_agree_with_the_data():
    from pfedmoap.data.catalog.domains import DOMAINNET, OFFICE
    from pfedmoap.embedded import sets

    for name, real, embedded in (("table3", DOMAINNET.domains, "domains"), ("table4", OFFICE.domains, "office")):
        *columns, average = GRIDS[name]("paper").columns
        assert [column.title.lower() for column in columns] == list(real)
        assert [column.domain[0] for column in columns] == list(range(len(real))) and average.domain is None
        *columns, _ = GRIDS[name]("quick").columns
        own = sets.load(embedded).domain_names
        assert [own[column.domain[0]] for column in columns] == [column.stand_in for column in columns]


def test_a_columns_clients_are_those_of_its_domain():
    assert list(range(30))[Column("x", "y", domain=(2, 6)).clients(30)] == [10, 11, 12, 13, 14]
    assert list(range(4))[Column("x", "y").clients(4)] == [0, 1, 2, 3]


def test_rows_in_table_3_and_4_are_repeated_under_the_released_protocol():
    for name in ("table2", "table3", "table4"):
        grid = GRIDS[name]("quick")
        again = {row.released: row for row in grid.rows if row.released}
        assert set(again) == {row.title for row in grid.compared}
        assert all(grid.cells[row.title, grid.columns[0].title][0].protocol == RELEASED for row in again.values())


def test_gate_widths_are_the_papers_fractions_of_d():
    for profile, d in (("paper", 1024), ("quick", 256)):
        widths = [row.method.d_gating for row in GRIDS["table8"](profile).compared]
        assert widths == [d // share for share in (32, 16, 8, 4, 2, 1)]


# --- numbers of grids whose columns are domains


@pytest.fixture
def domains(tmp_path):
    """Table 3 with two rows; in seed s, client i of domain k has accuracy (k + s) / 10."""
    grid = GRIDS["table3"]("quick", seeds=[1, 3], methods=["zero_shot", "coop"])
    store = Store(tmp_path)
    for item in grid:
        record = make_record(item, [0.0, 0.0])
        accuracies = [(k + item.seed) / 10 for k in range(6) for _ in range(5)]
        record["rounds"] = [entry | {"accuracies": accuracies} for entry in record["rounds"]]
        store.put(item, record)
    return grid, store


def test_a_cell_is_the_mean_over_its_domains_clients(domains):
    numbers = summary(*domains).set_index(["row", "column"])
    assert numbers.loc[("CoOp", "Clipart"), "mean"] == pytest.approx(20)
    assert numbers.loc[("CoOp", "Sketch"), "mean"] == pytest.approx(70)
    assert numbers.loc[("CoOp", "Average"), "mean"] == pytest.approx(45)
    assert numbers.loc[("CoOp", "Average"), "std"] == pytest.approx(10)
    assert len(clients(*domains).query("row == 'CoOp' and column == 'Real' and seed == 1")) == 5


def test_released_lines_stand_apart_from_the_papers(domains):
    headings = [block.heading for block in tables.table(*domains).blocks]
    assert any("released" in heading for heading in headings)
    assert "Under the released code's protocol" in tables.reading(*domains)


# --- what can be run


def test_columns_without_data_stay_empty_with_the_reason(tmp_path):
    grid = replace(GRIDS["table1"]("quick", seeds=[1], methods=["coop"]))
    cells = {cell: tuple(replace(item, dataset="flowers102") if cell[1] == "Flowers102" else item for item in items)
             for cell, items in grid.cells.items()}
    grid = reachable(replace(grid, cells=cells), Place(data_root=str(tmp_path)))
    assert list(grid.missing) == ["Flowers102"] and "Flowers102" not in {column for _, column in grid.cells}
    store = Store(tmp_path / "records")
    for item in grid:
        store.put(item, make_record(item, [0.5, 0.5]))
    shown = tables.table(grid, store)
    assert shown.blocks[0].text.iloc[0, 0] == "–" and "No numbers for Flowers102: " in shown.caption
    assert "Flowers102" not in tables.reading(grid, store)
    assert tables.write_table(grid, store, tmp_path)


def test_no_column_at_all_is_an_error_with_the_remedy():
    with pytest.raises(UserError, match="No column of table3.*--data-root"):
        reachable(GRIDS["table3"]("paper"))


# --- the notebooks' parameters


def test_settings_from_text():
    assert parse_settings("") == {}
    assert parse_settings("rounds=2, weights='a b.pt', shots=None") == {"rounds": 2, "weights": "a b.pt", "shots": None}
    for wrong in ("rounds", "rounds=", "1", "rounds=f(2)", "**{}"):
        with pytest.raises(UserError, match="must read like"):
            parse_settings(wrong)
    with pytest.raises(UserError, match="rounds"):
        parse_settings("round=2")


def test_selection_from_text():
    assert selection() == {"seeds": None, "methods": None}
    assert selection("1,2", "coop, promptfl", "rounds=2", "w.pt") == {
        "seeds": [1, 2], "methods": ["coop", "promptfl"], "rounds": 2, "weights": "w.pt"}
    with pytest.raises(UserError, match="seeds must read like"):
        selection("one")


def test_captions_name_settings_of_methods_that_are_not_the_papers():
    assert "d_gating (d_gating = d/32: 8, paper: 32" in captions._departures(GRIDS["table8"]("quick"))
    for name in GRIDS:
        assert "Not as in the paper" not in captions._departures(GRIDS[name]("paper"))
