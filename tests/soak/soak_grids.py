"""Grids: two processes, one of them with workers, at one folder of results and one cache of features."""

from pathlib import Path

from contents import features, records, timeless
from striking import Command, Work, pfedmoap

GRID = ("--dataset", "digits", "--method", "promptfl,pfedmoap", "--seed", "1,2", "--profile", "smoke",
        "--rounds", "6", "--shots", "8")


def commands(folder: Path) -> list[Command]:
    return [Command(f"grid {jobs}", grid(folder, "--jobs", jobs)) for jobs in (1, 2)]


def grid(folder: Path, *words) -> list[str]:
    return pfedmoap("run", *GRID, "--results", folder / "records", "--cache-dir", folder / "cache", "--json", *words)


def left(folder: Path) -> dict[str, str]:
    return records(folder / "records", folder) | features(folder / "cache")


def asks(folder: Path) -> list[Command]:
    return [Command("run", grid(folder))]


GRIDS = Work("grids", commands, left, asks=asks, shown=timeless,
             compared="records without seconds, features byte for byte, what `pfedmoap run --json` shows")
