"""Every benchmark runs at a tiny size, its two sides compute the same, and what it counts is what PyTorch counts."""

import math
import queue
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
import memory  # noqa: E402
import plot  # noqa: E402
import projection  # noqa: E402
import roofline  # noqa: E402
import scale  # noqa: E402
import scaling  # noqa: E402
import seeds  # noqa: E402
import training_step  # noqa: E402
import whole_run  # noqa: E402
from workload import Step, Update, random_clip  # noqa: E402

from pfedmoap.experiments import GRIDS, processor  # noqa: E402

TINY = ["--repeats", "1", "--threads", "1", "--classes", "5"]
MODEL = ["--model", "embedded_clip"]


@pytest.fixture(autouse=True)
def bf16_on_any_processor(monkeypatch):
    monkeypatch.setattr(processor, "SLOW", math.inf)


def test_the_training_step_is_the_plain_one_with_clients_in_turn(tmp_path):
    out = ["--out", str(tmp_path)]
    training_step.main([*TINY, *MODEL, "--clients", "1,3", "--plain-cohort", *out])
    table = pd.read_csv(tmp_path / "training_step.csv")
    assert list(table["clients"]) == [1, 1, 3, 3] and list(table["precision"]) == ["fp32", "bf16"] * 2
    full, half = (table[table["precision"] == precision] for precision in ("fp32", "bf16"))
    differences = ["loss_difference", "prompt_gradient_difference", "gate_gradient_difference"]
    assert (full[differences] <= 1e-5).all(axis=None)
    assert (half[differences] <= 0.06).all(axis=None) and (half[differences] > 1e-5).all(axis=None)
    scaling.main(["--repeats", "1", "--threads", "1", "--points", "2", *MODEL, *out])
    table = pd.read_csv(tmp_path / "scaling.csv")
    assert list(table["quantity"].unique()) == list(scaling.VALUES) and (table["seconds"] > 0).all()
    scale.main(["--clients", "10,20", *out])
    table = pd.read_csv(tmp_path / "scale.csv")
    assert list(table["training"]) == [10, 20] and (table["peak MiB"] >= table["before MiB"]).all()
    plot.main(["--results", str(tmp_path), "--figures", str(tmp_path)])
    assert (tmp_path / "speed.png").stat().st_size > 10_000


def test_a_whole_run(tmp_path):
    budget = ["--rounds", "2", "--epochs", "1", "--shots", "2", "--clients", "2"]
    whole_run.main([*TINY, *budget, "--models", "embedded_clip", "--out", str(tmp_path)])
    table = pd.read_csv(tmp_path / "whole_run.csv")
    assert list(table["steps"]) == [4, 4] and (table["run_s"] >= table["train_s"] + table["evaluate_s"]).all()


@pytest.mark.parametrize("work", ["plain step", "step", "run"])
def test_memory(work):
    results = queue.SimpleQueue()
    memory.measure(results, 1, work, "embedded_clip", "fp32", 5, 2)
    before, peak = results.get()
    assert 100 < before <= peak


def test_the_roofline(tmp_path):
    roofline.main([*TINY, *MODEL, "--clients", "2", "--size", "32", "--out", str(tmp_path)])
    table = pd.read_csv(tmp_path / "roofline.csv")
    assert 1.7 < table["gflop"][2] / table["gflop"][0] < 2  # two clients share the suffixes of the first block
    assert (table["gigabytes_moved"] > 0).all()


def test_seeds_in_turn_and_as_one(tmp_path):
    tiny = ["--shots", "2", "--clients", "2", "--runs", "2"]
    seeds.main([*TINY, *MODEL, *tiny, "--out", str(tmp_path)])
    (row,) = pd.read_csv(tmp_path / "seeds.csv").to_dict("records")
    assert row["times_faster"] == pytest.approx(row["in_turn_s"] / row["as_one_s"], rel=1e-2)


def test_an_update_takes_the_step_that_is_timed():
    clip = random_clip("embedded_clip")
    torch.testing.assert_close(Update(clip, 5, 2)(), Step(clip, 5, 2)()[0])


@pytest.mark.parametrize("classes, clients, experts", [(5, 1, 3), (9, 3, 2)])
def test_the_operations_of_a_step_are_those_that_pytorch_counts(classes, clients, experts):
    step = Step(random_clip("embedded_clip"), classes, clients, experts)
    aten = torch.ops.aten
    on_cpu = {  # not among those that it knows
        aten._scaled_dot_product_flash_attention_for_cpu:
            lambda q, k, v, *_, out_shape=None, **settings: sdpa_flop_count(q, k, v),
        aten._scaled_dot_product_flash_attention_for_cpu_backward:
            lambda grad, q, k, v, *_, out_shape=None, **settings: sdpa_backward_flop_count(grad, q, k, v),
    }  # fmt: skip
    with FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        step()
    assert roofline.step_flops(step) == counter.get_total_flops()


class HourlyCosts:
    """A step takes an hour; what is encoded takes nothing."""

    device = "cpu"

    def step(self, model, classes, cohort):
        return 3600.0

    def prompt(self, model, classes):
        return 0.0

    def image(self, model):
        return 0.0


def test_the_projection_counts_every_run_once():
    grids = {name: grid("paper") for name, grid in GRIDS.items()}
    runs = {run.key: run for grid in grids.values() for cell in grid.cells.values() for run in cell}
    flowers = next(run for run in runs.values() if run.dataset == "flowers102" and run.shots == 16)
    assert projection.local_steps(flowers) == 5 * 10  # 163 images of 10.2 classes, batches of 16
    cifar = next(run for run in runs.values() if run.dataset == "cifar10" and run.rounds == 120)
    assert projection.local_steps(cifar) == 5 * (500 // cifar.batch_size)
    rows = projection.project(HourlyCosts())
    thirds = projection.project(HourlyCosts(), seeds_per_batch=3)  # of three seeds each; FedOTP's are no batch on a CPU
    alone = sum(run.rounds * projection.local_steps(run) for run in runs.values() if run.method.spatial)
    assert thirds[-1]["runs"] == rows[-1]["runs"] and alone > 0
    assert thirds[-1]["hours"] == pytest.approx((rows[-1]["hours"] - alone) / 3 + alone)
    on_gpu = HourlyCosts()
    on_gpu.device = "cuda"
    assert projection.project(on_gpu, seeds_per_batch=3)[-1]["hours"] == pytest.approx(rows[-1]["hours"] / 3)
    assert [row["grid"] for row in rows] == [*GRIDS, "all"]
    steps = sum(run.rounds * projection.local_steps(run) for run in runs.values() if projection.trains(run))
    assert rows[-1]["runs"] == len(runs) and rows[-1]["cohort_steps"] == steps
    assert rows[-1]["hours"] == rows[-1]["train_h"] == pytest.approx(steps)


SCRIPTS = [memory, plot, projection, roofline, scale, scaling, seeds, training_step, whole_run]


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script, capsys):
    with pytest.raises(SystemExit) as exit:
        script.main(["--help"])
    assert exit.value.code == 0 and "--" in capsys.readouterr().out
