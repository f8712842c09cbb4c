"""A notebook in batch: `pfedmoap reproduce`, with the processes that it executes it in, and its kernel."""

import csv
import io
import json
import re
from pathlib import Path

from contents import BY_CLOCK, features, records, timeless
from striking import Command, Work, pfedmoap

NAMES = ("table2",)
METHODS = "methods=promptfl,pfedmoap"


def commands(folder: Path) -> list[Command]:
    places = ("--results", folder / "results", "--figures", folder / "figures", "--cache-dir", folder / "cache")
    return [Command("reproduce", pfedmoap("reproduce", *NAMES, "--profile", "smoke", "--seeds", 1, "-p", METHODS,
                                          "--jobs", 1, "--timeout", 0, *places))]


def left(folder: Path) -> dict[str, str]:
    results, figures = folder / "results", folder / "figures"
    found = records(results / "records", folder) | features(folder / "cache")
    for path in sorted([*results.glob("*.*"), *figures.glob("*.*")]):
        content = path.read_bytes()
        if path.suffix == ".csv":
            found[f"table {path.name}"] = table(content.decode())
        elif path.suffix == ".json":
            found[f"facts {path.name}"] = timeless(content.decode(), folder)
        else:
            found[f"file {path.name}"] = content.hex()
    for path in sorted((results / "notebooks").glob("*.ipynb")):
        found[f"notebook {path.name}"] = numbers(path.read_text(), folder)
    return found


def table(text: str) -> str:
    """A table without what the clock says."""
    rows = list(csv.DictReader(io.StringIO(text)))
    return json.dumps([{name: value for name, value in row.items() if name not in BY_CLOCK} for row in rows])


def numbers(text: str, folder: Path) -> str:
    """The code of an executed notebook's cells with the texts and pictures below them, without bars of progress.

    Of cells that show seconds no number is compared: the files have them.
    """
    shown = []
    for cell in json.loads(text)["cells"]:
        if cell["cell_type"] == "code":
            below = [output.get("data") or output.get("text") or output for output in cell["outputs"]
                     if output.get("name") != "stderr"]
            if "seconds" in json.dumps([cell["source"], below]):
                below = re.sub(r"\d+(\.\d+)?", "#", json.dumps(below))
            shown.append([cell["source"], below])
    return json.dumps(shown, indent=1).replace(str(folder), "FOLDER")


def asks(folder: Path) -> list[Command]:
    return [Command("verify", pfedmoap("verify", "--profile", "smoke", "--results", folder / "results", "--json"))]


NOTEBOOKS = Work("notebooks", commands, left, asks=asks, shown=timeless,
                 compared="records and tables without seconds, figures byte for byte, what the notebooks show, what "
                          "`pfedmoap verify --json` says")
