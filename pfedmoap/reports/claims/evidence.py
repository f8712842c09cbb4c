"""What a verdict may look at: the files of a profile's folder, its records where they are, and the published cells."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from pfedmoap.errors import UserError
from pfedmoap.experiments import GRIDS, Grid, Store, published_cells
from pfedmoap.reports.numbers import clients
from pfedmoap.reports.tables import fingerprint, whole_columns
from pfedmoap.system import SHIPPED


class NotRun(Exception):
    """What a claim rests on is not there; the message says why, and what makes it."""


@dataclass
class Evidence:
    """The results of one profile.

    Attributes:
        profile: whose grids.
        results: folder of its tables; records, if it has any, are in `records` there.
        rerun: folder of tables of the same profile that were made again, to be held against these; None: there is none.
        tests: run the tests that claims name.
    """

    profile: str
    results: Path
    rerun: Path | None = None
    tests: bool = False
    _read: dict[tuple[str, str], Any] = field(default_factory=dict, repr=False)

    def grid(self, name: str) -> Grid:
        """The grid as it is now, without what had no data.

        Raises:
            NotRun: it was never run, or with other runs.
        """
        return self._once("grid", name, lambda: self._grid(name))

    def facts(self, name: str) -> dict[str, Any]:
        """The table's JSON file."""
        return self._once("facts", name, lambda: json.loads(self.file(f"{name}.json").read_text()))

    def cells(self, name: str) -> pd.DataFrame:
        """The table's CSV file, one line per cell."""
        return self._once("cells", name, lambda: pd.read_csv(self.file(f"{name}.csv")))

    def clients(self, name: str) -> pd.DataFrame:
        """One line per row, column, seed and client: of the records if all are there, else of the committed file."""
        return self._once("clients", name, lambda: self._clients(name))

    def committed_clients(self, name: str) -> pd.DataFrame:
        """The same of the committed file."""
        return self._once("committed", name, lambda: pd.read_csv(self.file(f"{name}_clients.csv")))

    def printed(self, name: str) -> pd.DataFrame:
        """The paper's cells: columns method, dataset, mean, std."""
        return self._once("printed", name, lambda: published_cells(name))

    def benchmark(self, name: str) -> pd.DataFrame:
        path = SHIPPED / "results" / "benchmarks" / f"{name}.csv"
        if not path.is_file():
            raise NotRun(f"there is no results/benchmarks/{name}.csv: make bench BENCHMARKS={name}")
        return self._once("benchmark", name, lambda: pd.read_csv(path))

    def file(self, name: str) -> Path:
        """A file of the results.

        Raises:
            NotRun: it is not there.
        """
        path = self.results / name
        if not path.is_file():
            table = name.partition(".")[0].removesuffix("_clients")
            raise NotRun(f"there is no {name}: pfedmoap reproduce {table} --profile {self.profile}")
        return path

    def runs(self, name: str) -> tuple[int, float, list[str]]:
        """What a table took: its runs, their seconds added up, and the machines."""
        facts = self.facts(name)
        return facts["runs"], facts["seconds"], facts["machines"]

    def _once(self, kind: str, name: str, make: Any) -> Any:
        if (kind, name) not in self._read:
            self._read[kind, name] = make()
        return self._read[kind, name]

    def _grid(self, name: str) -> Grid:
        if name not in GRIDS:
            raise UserError(f"There is no table or figure {name}: use one of {', '.join(GRIDS)}.")
        facts = self.facts(name)
        seeds = None if not facts.get("seeds") else facts["seeds"]
        grid = GRIDS[name](self.profile, seeds=seeds).without(facts["missing"])
        if facts["grid"] != fingerprint(grid):
            raise NotRun(f"{name} was made with other runs than its grid has now: pfedmoap reproduce {name} --profile "
                         f"{self.profile}")
        return grid

    def _clients(self, name: str) -> pd.DataFrame:
        grid, folder = self.grid(name), self.results / "records"
        if folder.is_dir() and all((folder / f"{item.label}.json").is_file() for item in grid):
            found = clients(grid, Store(folder))
            return found[found["column"].isin(whole_columns(grid))]
        return self.committed_clients(name)
