"""What a processor is no good at is refused with what was measured, or left out where nobody asked for it."""

import logging
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pfedmoap.commands import main
from pfedmoap.errors import UserError
from pfedmoap.experiments import Personalised, Place, from_profile, prepare, processor, run, too_slow
from pfedmoap.methods import ZeroShot

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import measuring  # noqa: E402

IN_BF16 = from_profile("digits", ZeroShot(), "smoke", clients=2, shots=2, precision="bf16")
FIGURES = r"168 times slower than fp32 on this processor \(.*480 x 512 x 2048 takes 1,844 ms, in fp32 11 ms\)"


@pytest.fixture
def bf16_takes(monkeypatch):
    """Sets the seconds that the timed product takes in bf16; in fp32 it takes 11 ms."""
    def bf16_takes(seconds: float) -> None:
        monkeypatch.setattr(processor, "product_seconds", {"bf16": seconds, "fp32": 0.011}.__getitem__)
    return bf16_takes


@pytest.fixture
def place(features_cache):
    return Place(cache=features_cache)


def test_bf16_is_refused_by_name_where_it_is_asked_for_and_many_times_slower(bf16_takes, place, capsys):
    bf16_takes(1.844)
    for ask in (lambda: prepare(IN_BF16, place), lambda: run(IN_BF16, place, progress=False)):
        with pytest.raises(UserError, match=rf"^precision bf16 is {FIGURES}: use --precision fp32, or a GPU"):
            ask()
    with pytest.raises(SystemExit) as ended:
        main(["run", "--dataset", "digits", "--method", "zero_shot", "--profile", "smoke", "--precision", "bf16"])
    assert ended.value.code == 2 and "168 times slower than fp32" in " ".join(capsys.readouterr().err.split())


def test_fp32_and_gpus_are_never_refused(bf16_takes):
    bf16_takes(1.844)
    assert too_slow("fp32", "cpu") is None and too_slow("bf16", "cuda:1") is None and too_slow("bf16", "cpu")


@pytest.mark.parametrize("seconds", [0.002, 0.030])
def test_bf16_that_is_faster_or_a_little_slower_is_computed(bf16_takes, place, seconds):
    bf16_takes(seconds)
    assert prepare(IN_BF16, place).clip.dtype == torch.bfloat16


def test_a_personal_model_of_bf16_is_computed_in_fp32_where_that_is_faster(bf16_takes, place, tmp_path, caplog):
    bf16_takes(0.002)
    prepared = prepare(IN_BF16, place)
    list(prepared.federation.rounds())
    Personalised.of(prepared, 0).save(tmp_path / "client.safetensors")
    image = prepared.imageset.test.images[0]
    expected = Personalised.load(tmp_path / "client.safetensors").predict(image)
    assert not caplog.records
    bf16_takes(1.844)
    with caplog.at_level(logging.WARNING):
        personal = Personalised.load(tmp_path / "client.safetensors")
    assert "168 times slower" in caplog.text and len(caplog.records) == 1
    assert personal.clip.dtype == torch.float32 and personal.predict(image).classes[0] == expected.classes[0]
    Personalised.load(tmp_path / "client.safetensors", clip=prepared.clip)  # as it is asked for
    assert len(caplog.records) == 1


def test_the_benchmarks_leave_bf16_out_unless_it_is_asked_for(bf16_takes, capsys):
    bf16_takes(0.002)
    assert measuring.precisions(None, "cpu") == ["fp32", "bf16"] and capsys.readouterr().out == ""
    bf16_takes(1.844)
    assert measuring.precisions(None, "cpu") == ["fp32"] and "168 times slower" in capsys.readouterr().out
    assert measuring.precisions(None, "cuda") == ["fp32", "bf16"]
    with pytest.raises(UserError, match="168 times slower"):
        measuring.precisions(["bf16"], "cpu")


def test_a_product_is_measured_once():
    processor.product_seconds.cache_clear()
    first = processor.product_seconds("fp32")
    assert first > 0 and processor.product_seconds("fp32") is first


@pytest.mark.parametrize(("has", "name"), [
    ({"amx_bf16": True, "avx512_bf16": True, "avx512_f": True, "avx2": True}, "AMX"),
    ({"amx_bf16": False, "avx512_bf16": True, "avx512_f": True, "avx2": True}, "AVX512-BF16"),
    ({"avx512_f": True, "avx2": True}, "AVX512"), ({"avx2": True}, "AVX2"),
    ({}, torch.backends.cpu.get_cpu_capability()),
])
def test_the_best_instructions_are_named(monkeypatch, has, name):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    assert processor.instruction_set() == name


def test_a_record_names_the_instructions(place, monkeypatch):
    monkeypatch.setattr("pfedmoap.experiments.records.instruction_set", lambda: "AVX2")
    record = run(replace(IN_BF16, precision="fp32"), place, progress=False)
    assert " with AVX2, " in record["machine"] and record["machine"].endswith(" cores")
