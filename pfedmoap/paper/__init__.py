"""The paper's experiments: profiles, the grid of runs behind each table and figure, and the published numbers."""

from pfedmoap.paper.grid import Column, Grid, Row
from pfedmoap.paper.published import published
from pfedmoap.paper.settings import SEEDS, STAND_INS, experiment, parse_settings, selection
from pfedmoap.paper.tables import (
    GRIDS,
    figure3,
    figure4,
    table1,
    table2,
    table3,
    table4,
    table5,
    table6,
    table7,
    table8,
)
from pfedmoap.paths import PROFILES

__all__ = [
    "GRIDS", "PROFILES", "SEEDS", "STAND_INS", "Column", "Grid", "Row", "experiment", "figure3", "figure4",
    "parse_settings", "published", "selection", "table1", "table2", "table3", "table4", "table5", "table6", "table7",
    "table8",
]
