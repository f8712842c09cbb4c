"""Which columns of a grid can be run here: a missing data set or weight file leaves its column empty, with the reason.
"""

from collections.abc import Mapping
from dataclasses import replace

from pfedmoap.checkpoints import find_weights
from pfedmoap.errors import UserError
from pfedmoap.experiments import Grid
from pfedmoap.experiments.datasets import load_dataset
from pfedmoap.experiments.experiment import Experiment
from pfedmoap.experiments.preparation import Place


def reachable(grid: Grid, place: Place = Place()) -> Grid:
    """The grid without the columns whose data or weights are not here; `Grid.missing` has the reasons.

    Raises:
        UserError: no column is left.
    """
    reasons: dict[tuple, str] = {}
    missing = {}
    for (_, column), experiments in grid.cells.items():
        wanted = experiments[0].dataset, experiments[0].model, experiments[0].weights
        if wanted not in reasons:
            reasons[wanted] = _reason(experiments[0], place)
        if reasons[wanted]:
            missing[column] = reasons[wanted]
    if len(missing) == len(grid.columns):
        raise UserError(f"No column of {grid.name} ({grid.profile}) can be run here: "
                        f"{'; '.join(dict.fromkeys(missing.values()))}")
    return grid.without(missing)


def first_reachable(grids: Mapping[str, Grid], place: Place = Place()) -> tuple[dict[str, Grid], dict[str, str]]:
    """Each grid with the first of its columns that can be run here, and no other.

    Returns:
        Name -> grid; and name -> why a grid has no such column.

    Raises:
        UserError: none of them has one.
    """
    found, reasons = {}, {}
    for name, grid in grids.items():
        try:
            grid = reachable(grid, place).filled
        except UserError as error:
            reasons[name] = str(error)
            continue
        title = grid.columns[0].title
        cells = {cell: runs for cell, runs in grid.cells.items() if cell[1] == title}
        found[name] = replace(grid, columns=grid.columns[:1], cells=cells, missing={})
    if not found:
        raise UserError(" ".join(reasons.values()))
    return found, reasons


def _reason(experiment: Experiment, place: Place) -> str:
    """Why an experiment cannot be run; empty if it can, as far as files go."""
    try:
        load_dataset(experiment.dataset, place.data_root)
        find_weights(experiment.model, experiment.weights)
    except UserError as error:
        return str(error)
    return ""
