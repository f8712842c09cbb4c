"""What a GPU would refuse or wait for, seen without one: whole runs on a pretended GPU give the CPU's results."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from torch.utils import backend_registration

from pfedmoap.methods import METHODS, PFedMoAP

CASES = [*METHODS, "linear gate", "random experts", "global expert", "experts per client", "bf16", "privacy",
         "released code", "fp16", "seeds", "fedotp seeds"]  # fmt: skip
pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this PyTorch knows no devices that are written in Python")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, dict]:
    """Of every case; in processes of their own, since PyTorch keeps such a device for good; once for all workers."""
    folder = tmp_path_factory.getbasetemp()
    found = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "pretended.jsonl"
    with FileLock(found.with_suffix(".lock")):
        if not found.exists():
            command = [sys.executable, Path(__file__).with_name("runs.py"), tmp_path_factory.mktemp("features")]
            halves = [subprocess.Popen([*command, half], stdout=subprocess.PIPE, text=True) for half in ("0", "1")]
            lines = [half.communicate()[0] for half in halves]
            assert [half.returncode for half in halves] == [0, 0]
            found.write_text("".join(lines))
    return {case.pop("case"): case for case in map(json.loads, found.read_text().splitlines())}


@pytest.mark.parametrize("case", CASES)
def test_a_run_mixes_no_devices_and_gives_the_cpus_results(outcomes, case):
    outcome = outcomes[case]
    assert outcome.get("error") is None
    # bf16's attention is another one there: written out, not fused
    loss, accuracy = (0.05, 0.01) if case == "bf16" else (1e-4, 1e-6)
    assert outcome["rounds"] >= 2 and outcome["loss"] <= loss and outcome["accuracy"] <= accuracy


@pytest.mark.parametrize("case", [case for case in CASES if not METHODS.get(case.split()[0], PFedMoAP).waits])
def test_the_host_waits_no_more_often_in_two_epochs_than_in_one(outcomes, case):
    """But before the first step, when it hands over which images are in which batch."""
    few, many = outcomes[case]["waits"]
    assert many == (2 * few if case == "released code" else few)  # which makes a local update of every epoch
    assert outcomes[case]["feature_waits"] == 0


def test_what_mixes_devices_or_waits_is_noticed(outcomes):
    assert "expected all tensors on the same device" in outcomes["mixing"]["error"]
    for case in ("waiting", "uploading", "fedotp"):  # the last until its transport problems have converged
        few, many = outcomes[case]["waits"]
        assert 0 < few < many
