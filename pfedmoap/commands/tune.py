"""`pfedmoap tune`: every method with the same number of tries, and Table 1 with what was chosen."""

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pfedmoap.commands.shared import AsJson, CacheDir, DataRoot, Device, Jobs, place, say, what
from pfedmoap.system import paths

if TYPE_CHECKING:
    from pfedmoap.experiments import Tuning


def tune(
    methods: Annotated[str | None, what(r"Separated by commas. \[default: all that are trained]")] = None,
    datasets: Annotated[str | None, what(r"Table 1's, separated by commas. \[default: all]")] = None,
    profile: Annotated[str, what("Settings that are not tuned: smoke, quick or long.")] = "quick",
    seeds: Annotated[str | None, what(r"Of the validation runs, such as 0,7. \[default: 0]")] = None,
    results: Annotated[Path | None, place(r"Folder of tables and records. \[default: results/PROFILE]")] = None,
    data_root: DataRoot = None,
    cache_dir: CacheDir = None,
    device: Device = "cpu",
    jobs: Jobs = 0,
    as_json: AsJson = False,
) -> None:
    """Tune the methods of Table 1 with the same number of tries each, and compare.

    A try is a learning rate and a value of the method's own setting (λ, μ, ...);
    the paper's is among them. The best is chosen on validation draws, which hold
    no test image of any set: once for all sets, and for each. Then what was
    chosen is run on the sets themselves, beside the paper's settings, with the
    profile's seeds.

    Runs are never done twice; an interrupted command goes on when it is given
    again. It writes tuning.csv (all tries), tuning.json (what was chosen, and on
    what), tuned.csv, tuned.md and tuned.tex (what came out).

    Examples:

      pfedmoap tune

      pfedmoap tune --methods promptfl,pfedmoap --datasets nature --profile smoke
    """
    from pfedmoap import reports
    from pfedmoap.commands import console
    from pfedmoap.experiments import Place, Store, choose, run_all, run_tuning, tuned_grids, write_tuning

    plan = _plan(profile, methods, datasets, seeds)
    folder = results or paths.results_dir(plan.profile)
    store = Store(folder / "records")
    where = Place(data_root and str(data_root), cache_dir and str(cache_dir), device)
    with redirect_stdout(sys.stderr):
        tries = run_tuning(plan, where, store=store, jobs=jobs or None)
        choices = choose(tries)
        written = write_tuning(plan, tries, choices, store, folder)
        grids = tuned_grids(plan, choices)
        run_all([run for grid in grids.values() for run in grid], where, store=store, jobs=jobs or None)
        written += reports.write_tuned(plan, choices, tries, grids, store, folder)
    if as_json:
        chosen = json.loads((folder / "tuning.json").read_text())
        numbers = reports.tuned_numbers(grids, store).to_dict("records")
        typer.echo(json.dumps({"tuning": chosen, "tuned": numbers}, indent=1))
    else:
        table = reports.tuned_table(plan, choices, tries, grids, store)
        console.show_frame(reports.chosen_settings(choices, tries), "chosen on validation draws")
        console.show_frame(table.blocks[0].text, f"accuracy %, mean over {', '.join(tries['dataset'].unique())}")
    for path in written:
        say(str(path))


def _plan(profile: str, methods: str | None, datasets: str | None, seeds: str | None) -> "Tuning":
    from pfedmoap.commands.options import TITLES, parse
    from pfedmoap.errors import recognise
    from pfedmoap.experiments import PROFILES, VALIDATION_SEEDS, dataset_names, plan_tuning
    from pfedmoap.methods import METHODS

    profile = recognise(profile, PROFILES, "profile")
    named = [recognise(name, list(METHODS), "method", TITLES) for name in _split(methods)]
    sets = [recognise(name, dataset_names(), "data set") for name in _split(datasets)]
    numbers = [parse(seed, int, "seeds") for seed in _split(seeds)]
    return plan_tuning(profile, named or None, sets or None, numbers or VALIDATION_SEEDS)


def _split(text: str | None) -> Sequence[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]
