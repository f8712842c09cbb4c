"""Notebooks are clean in the repository, thin, and run from the first cell to the last in the smoke profile."""

import ast
import json
import os
import re
from importlib.util import find_spec
from pathlib import Path

import nbformat
import nine_sets
import pandas as pd
import pytest

from pfedmoap import batch
from pfedmoap.batch import Job
from pfedmoap.experiments import table1
from pfedmoap.system.paths import NOTEBOOKS, ROOT

RESULTS = ROOT / "results"
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
LAB = "01_method_step_by_step"  # the one that teaches, and may be longer
MOST_CELLS = 25
MOST_CELLS_OF_LAB = 35


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_notebook_is_clean_and_has_one_cell_of_plain_parameters(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert len(notebook.cells) <= (MOST_CELLS_OF_LAB if path.stem == LAB else MOST_CELLS)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    (parameters,) = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    for line in ast.parse(parameters.source).body:
        assert isinstance(line, ast.Assign) and isinstance(ast.literal_eval(line.value), (str, int, float, bool))


def execute(name: str, folder: Path, solutions: bool = False, **parameters) -> nbformat.NotebookNode:
    """Runs a notebook as a batch does; with its solutions, which stand in its exercises' text, as further cells."""
    places = {place: str(folder / place) for place in ("results", "figures")} | {"cache": os.environ["PFEDMOAP_CACHE"]}
    (path,) = [path for path in PATHS if path.stem.startswith(name)]
    notebook = nbformat.read(path, as_version=4)
    if solutions:
        text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        notebook.cells += [nbformat.v4.new_code_cell(block) for block in blocks]
        path = folder / "with_solutions.ipynb"
        nbformat.write(notebook, path)
    job = Job(path, folder / f"executed_{path.name}", {"profile": "smoke"} | places | parameters, (folder,))
    (outcome,) = batch.execute([job], processes=1, force=True)
    assert outcome.failure is None, outcome.failure
    return nbformat.read(job.output, as_version=4)


def assert_written(folder: Path, *names: str) -> None:
    for name in names:
        for ending in (".png", ".pdf"):
            assert (folder / f"{name}{ending}").stat().st_size > 5000, name


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs)


def test_start_here_runs(tmp_path):
    executed = execute("00", tmp_path)
    names = ("partition", "curves", "clients", "traffic")
    assert_written(tmp_path / "figures", *(f"start_here_{name}" for name in names))
    comparison = pd.read_csv(tmp_path / "results" / "start_here.csv")
    assert comparison["method"].tolist() == ["zero_shot", "promptfl", "coop", "pfedmoap"]
    assert comparison["accuracy"].between(0, 100).all()
    assert "round 2: 10 clients trained" in printed(executed)


def test_step_by_step_runs_and_so_do_its_solutions(tmp_path):
    executed = execute(LAB, tmp_path, solutions=True)
    names = ("heterogeneity", "guesses", "averaging", "pool", "attention", "entropy", "gradients", "logits", "lambda",
             "traffic")
    assert_written(tmp_path / "figures", *(f"method_{name}" for name in names))
    gained = pd.read_csv(tmp_path / "results" / "method_own_classes.csv", index_col="logits")
    assert len(gained) == 4 and gained.stack().between(0, 100).all()
    kinds = [[kind for output in cell.get("outputs", []) for kind in output.get("data", {})] for cell in executed.cells]
    (slider,) = [cell for cell in kinds if "application/vnd.jupyter.widget-view+json" in cell]
    assert "image/png" in slider  # without a front end there is a picture all the same
    for solution in ("α = 50.0", "16 epochs", "no mutual lender", "logits reach", "output.bias", "at λ = 0", "random"):
        assert solution in printed(executed)


def test_table1_runs_and_writes_table_and_figures(tmp_path):
    execute("table1", tmp_path, seeds="1", jobs=1)
    grid = table1("smoke", seeds=(1,))
    table = pd.read_csv(tmp_path / "results" / "table1.csv")
    assert set(zip(table["method"], table["column"], strict=True)) == set(grid.cells)
    assert set(table["dataset"]) == {column.dataset for column in grid.columns}
    assert (table["seeds"] == 1).all() and table["mean"].between(0, 100).all() and (table["std"] == 0).all()
    assert "one seed (1)" in (tmp_path / "results" / "table1.md").read_text()
    assert r"\toprule" in (tmp_path / "results" / "table1.tex").read_text()
    assert len(list((tmp_path / "results" / "records").glob("*.json"))) == len(list(grid))
    kinds = ("ranks", "rounds", "clients", "traffic", "compute")
    assert_written(tmp_path / "figures", "table1", *(f"table1_{kind}" for kind in kinds))


def test_a_missing_set_leaves_its_column_empty_with_the_reason_and_the_rest_runs(tmp_path):
    nine_sets.cifar10(tmp_path / "data")
    settings = "model='embedded_clip', weights=None, clients=2, participation=1.0, rounds=2, local_epochs=1"
    execute("table2", tmp_path, profile="paper", seeds="1", methods="zero_shot,pfedmoap", settings=settings,
            data_root=str(tmp_path / "data"), jobs=1)
    table = pd.read_csv(tmp_path / "results" / "table2.csv").set_index("column")
    assert table.loc["CIFAR10", "mean"].between(0, 100).all() and table.loc["CIFAR100", "mean"].isna().all()
    reason = "CIFAR-100 was not found under data (looked for cifar-100-python and cifar100): download"
    missing = json.loads((tmp_path / "results" / "table2.json").read_text())["missing"]
    assert list(missing) == ["CIFAR100"] and missing["CIFAR100"].startswith(reason)
    assert f"No numbers for CIFAR100: {reason}" in (tmp_path / "results" / "table2.md").read_text()
    assert_written(tmp_path / "figures", "table2", "table2_protocols", "table2_rounds", "table2_clients")


def test_paper_and_code_runs_and_writes_its_tables_and_figures(tmp_path):
    executed = execute("03", tmp_path, tables="table3", switches="label_pairing", jobs=1,
                       methods="zero_shot,promptfl,coop,pfedmoap")
    boards = "table3", "table3_long"
    for name in boards:
        numbers = pd.read_csv(tmp_path / "results" / f"paper_and_code_{name}.csv").set_index(["protocol", "method"])
        assert numbers["mean"].between(0, 100).all() and (numbers.loc["paper", "difference"] == 0).all()
    assert numbers.loc[("label_pairing", "ZS-CLIP"), "mean"] < 20  # ten classes, and labels that say nothing
    for name in (*boards, "labels", "origins", "pattern"):
        assert "| PromptFL" in (tmp_path / "results" / f"paper_and_code_{name}.md").read_text()
    assert_written(tmp_path / "figures", *(f"paper_and_code_{name}" for name in ("schedule", "switches", "labels",
                                                                                "pattern")))
    words = "".join(output.get("data", {}).get("text/markdown", "") for cell in executed.cells
                    for output in cell.get("outputs", []))
    assert "label_pairing alone" in words and "As published" in words


def test_what_prompts_tell_runs_and_writes_its_tables_and_figures(tmp_path):
    executed = execute("04", tmp_path, jobs=1)
    attacks = pd.read_csv(tmp_path / "results" / "privacy_attacks.csv")
    assert attacks["mean"].between(0, 1).all() and set(attacks["protection"]) == {"none", "ε = 2"}
    assert set(attacks["data"]) == {"nature", "machines", "caltech40"}
    costs = pd.read_csv(tmp_path / "results" / "privacy_dp.csv")
    assert costs[["accuracy_own", "accuracy_uploaded"]].stack().between(0, 100).all()
    assert (costs["bound_one"] <= costs["bound_epsilon"] + 1e-4).all()
    for name in ("membership", "classes", "words", "dp", "others"):
        assert "| p_1" in (text := (tmp_path / "results" / f"privacy_{name}.md").read_text()) or "pFedMoAP" in text
    names = ("classes", "roc", "epsilon", "ledger", "poisoning")
    assert_written(tmp_path / "figures", *(f"privacy_{name}" for name in names))
    spent = pd.read_csv(tmp_path / "results" / "privacy_ledger.csv")
    assert (spent["epsilon"] >= spent["promised"] - 1e-3).all() and spent["uploads"].max() > 1
    needed = pd.read_csv(tmp_path / "results" / "privacy_sums.csv").set_index("method")["its server needs"]
    assert needed["PromptFL"] == "the sum" and needed["pFedMoAP, K nearest experts"] == "each upload"
    poison = pd.read_csv(tmp_path / "results" / "privacy_poisoning.csv")
    assert set(poison["filter"]) == {"none", "median"} and poison["success"].between(0, 100).all()
    words = "".join(output.get("data", {}).get("text/markdown", "") for cell in executed.cells
                    for output in cell.get("outputs", []))
    assert "over-fitted on purpose" in words and "by the noise that is added" in words
    assert "the sum is enough" in words and "with the median filter" in words and "has spent" in words


def test_beyond_the_paper_runs_and_writes_its_tables_and_figures(tmp_path):
    executed = execute("06", tmp_path, jobs=1, methods="zero_shot,promptfl,pfedmoap,class_means")
    questions = "base_new", "new_clients", "unseen_domain"
    for name in questions:
        numbers = pd.read_csv(tmp_path / "results" / f"beyond_{name}.csv")
        assert numbers["accuracy"].between(0, 100).all() and set(numbers["seed"]) == {1}
        assert "| PromptFL" in (tmp_path / "results" / f"beyond_{name}.md").read_text()
    assert_written(tmp_path / "figures", *(f"beyond_{name}" for name in questions))
    words = "".join(output.get("data", {}).get("text/markdown", "") for cell in executed.cells
                    for output in cell.get("outputs", []))
    assert "What the gate adds" in words and "Newcomers start between" in words and "domains left out" in words


def test_claims_runs_on_the_committed_results(tmp_path):
    executed = execute("05", tmp_path, profile="long", results=str(RESULTS / "long"), against=str(RESULTS / "long"),
                       claims="table1-mean,printed-table1,experts-help,kit-rerun")
    assert_written(tmp_path / "figures", "claims")
    shown = "".join(output.get("data", {}).get("text/html", "") for cell in executed.cells
                    for output in cell.get("outputs", []))
    assert "toy: holds" in shown and "inconclusive" in shown and "verified" in shown
    assert "pFedMoAP is ahead of every other method on the few-shot sets" in shown
    assert "equal" in shown and "different" not in shown  # the committed tables against themselves


def test_your_own_data_runs_from_folders_to_a_personal_model(tmp_path):
    executed = execute("02", tmp_path, rounds=2)
    assert_written(tmp_path / "figures", "your_own_data_partition")
    accuracies = pd.read_csv(tmp_path / "results" / "your_own_data.csv")
    assert accuracies["client"].tolist() == ["grayscale", "product", "wallpaper", "webcam"]
    gate = pd.read_csv(tmp_path / "results" / "your_own_data_gate.csv")
    assert len(gate) == 5 and gate.filter(regex="own prompt|expert").sum(axis=1).round(2).eq(1).all()
    assert "recognised as clients/<client>/{train,test}/<class>/*" in printed(executed)
    assert "the same answer: True" in printed(executed)
    assert (tmp_path / "results" / "personal_0.safetensors").stat().st_size < 500_000
    onnx = all(map(find_spec, ("onnxruntime", "onnxscript")))
    assert ("without PyTorch: " if onnx else "skipped, as onnxruntime is not installed") in printed(executed)
