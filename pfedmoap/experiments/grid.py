"""What a table or figure is made of: rows, columns, and the runs of each cell."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pfedmoap.errors import UserError, refuse_unknown
from pfedmoap.experiments.experiment import Experiment
from pfedmoap.experiments.profiles import SEEDS, from_profile
from pfedmoap.methods import Method
from pfedmoap.system import PROFILES


@dataclass(frozen=True)
class Row:
    """A row of a table, or a point of a figure's curve.

    Attributes:
        title: how it is called.
        method: what is run.
        published: the published row that it stands beside; empty if there is none.
        control: set apart from the methods: untrained or crippled on purpose (SPEC 8), or a plain classifier
            (`Method.plain`).
        settings: settings of `Experiment` that are this row's own.
        released: the title of the row that this one repeats under the released code's protocol (SPEC 9).
        curve, x: the curve that it is a point of, and where, in grids that vary a number.
    """

    title: str
    method: Method
    published: str = ""
    control: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    released: str = ""
    curve: str = ""
    x: float | None = None


@dataclass(frozen=True)
class Column:
    """A column of a table: a data set, or one domain of it.

    Attributes:
        title: the paper's.
        dataset: what is run.
        stand_in: what it is called where it is not the paper's own data; empty: as the data set.
        domain: (k, n): of the clients only the k-th of n equal parts, those who own one domain; None: all.
        settings: settings of `Experiment` that are this column's own.
    """

    title: str
    dataset: str
    stand_in: str = ""
    domain: tuple[int, int] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def clients(self, count: int) -> slice:
        """The clients of this column, of `count` in all."""
        if self.domain is None:
            return slice(None)
        k, parts = self.domain
        return slice(k * count // parts, (k + 1) * count // parts)


@dataclass(frozen=True)
class Grid:
    """The runs behind a table or figure.

    Attributes:
        name: "table1", "figure4", ...; also the name of its published numbers.
        cells: (row title, column title) -> its experiments, one per seed. Columns of one data set share them.
        missing: column title -> why it has no runs here; its cells stay empty.
        axis: what varies along the curves, for grids that have some.
        log_axis: whether that is shown on a logarithmic axis.
    """

    name: str
    profile: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    cells: dict[tuple[str, str], tuple[Experiment, ...]]
    missing: Mapping[str, str] = field(default_factory=dict)
    axis: str = ""
    log_axis: bool = False

    @property
    def compared(self) -> tuple[Row, ...]:
        """The methods: rows that are no controls and under the paper's protocol; if there are none, all."""
        return tuple(row for row in self.rows if not row.control and not row.released) or self.rows

    def headings(self) -> list[str]:
        """The columns' names: of the data that are really run."""
        if self.profile == "paper":
            return [column.title for column in self.columns]
        return [column.stand_in or column.dataset for column in self.columns]

    def without(self, missing: Mapping[str, str]) -> "Grid":
        """The same grid with columns that cannot be run: column title -> the reason."""
        cells = {cell: runs for cell, runs in self.cells.items() if cell[1] not in missing}
        return replace(self, cells=cells, missing={**self.missing, **missing})

    @property
    def filled(self) -> "Grid":
        """The same grid without its empty columns."""
        return replace(self, columns=tuple(column for column in self.columns if column.title not in self.missing))

    def __iter__(self) -> Iterator[Experiment]:
        """All experiments of the grid, each once."""
        yield from dict.fromkeys(item for experiments in self.cells.values() for item in experiments)


def build_grid(
    name: str,
    profile: str,
    rows: Sequence[Row],
    columns: Sequence[Column],
    seeds: Sequence[int] | None,
    methods: Sequence[str] | None,
    overrides: Mapping[str, Any],
    **axes: Any,
) -> Grid:
    """A grid with every cell's experiments: the profile's settings, then the column's, the row's, and `overrides`.

    Args:
        seeds: None: the profile's.
        methods: names of the methods to keep; None: all.
        axes: `Grid.axis` and `Grid.log_axis`.

    Raises:
        UserError: an unknown profile, method or setting, or nothing is left.
    """
    if methods is not None:
        refuse_unknown(methods, [row.method.name for row in rows], f"method in {name}")
        rows = [row for row in rows if row.method.name in methods]
    refuse_unknown([profile], list(PROFILES), "profile")
    seeds = SEEDS[profile] if seeds is None else seeds
    if not rows or not seeds:
        raise UserError(f"{name} needs at least one method and one seed.")

    def runs(row: Row, column: Column) -> tuple[Experiment, ...]:
        settings = {**row.settings, **overrides}
        first = from_profile(column.dataset, row.method, profile, column.settings, **settings)
        return tuple(replace(first, seed=seed) for seed in seeds)

    cells = {(row.title, column.title): runs(row, column) for row in rows for column in columns}
    return Grid(name, profile, tuple(rows), tuple(columns), cells, **axes)
