"""The published numbers, as printed (SPEC 6)."""

import pandas as pd

from pfedmoap.errors import UserError
from pfedmoap.system import PUBLISHED


def published_cells(name: str) -> pd.DataFrame:
    """The published numbers of a table, in percent: columns table, dataset, method, setting, mean, std.

    Raises:
        UserError: there is no such file, as when the package is used without the project's folder.
    """
    path = PUBLISHED / f"{name}.csv"
    if not path.is_file():
        raise UserError(f"The published numbers {path} are not there: run from a clone of the project.")
    return pd.read_csv(path)
