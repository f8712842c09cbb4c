"""What a GPU needs: no wait for results inside an update; on one, the CPU's losses, and bf16's accuracy."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_client import MOAP, RECIPE, update
from tiny import make_data
from torch.utils._python_dispatch import TorchDispatchMode

from pfedmoap import graphs
from pfedmoap.experiments import Place, from_profile, prepare
from pfedmoap.methods import FedAMP, FedOTP, FedPer, FedPGP, FedProx, PFedMoAP, PFedPrompt, PromptFL

WAITS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal", "aten::is_nonzero"}
INDEXED = {"aten::index", "aten::index_put", "aten::index_put_"}  # they wait if a mask chooses
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


class Waits(TorchDispatchMode):
    """Counts operations whose result the host has to know before it goes on."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), settings=None):
        name, by = function._schema.name, arguments[1] if len(arguments) > 1 else ()
        masked = name in INDEXED and any(own is not None and own.dtype == torch.bool for own in by)
        if name in WAITS or masked:
            self.counts[name] += 1
        return function(*arguments, **(settings or {}))


def waits(context, method, epochs):
    with Waits() as waits:
        update(context, make_data(), [0, 1, 2, 3], method, replace(RECIPE, epochs=epochs))
    return waits.counts.total()


@pytest.mark.parametrize("method", [MOAP, PromptFL(), FedProx()], ids=lambda method: method.name)
def test_the_host_waits_no_more_often_in_nine_epochs_than_in_one(context, method):
    waits(context, method, 1)  # the first update of a process waits for what is worked out once
    assert waits(context, method, 9) == waits(context, method, 1)


@pytest.mark.parametrize("wait", [lambda loss: float(loss.sum()), lambda loss: loss[loss > 0]])
def test_a_wait_is_noticed(context, wait):
    class Waiting(PromptFL):
        def loss(self, *arguments):
            loss = super().loss(*arguments)
            wait(loss.detach())
            return loss

    assert waits(context, Waiting(), 9) > waits(context, Waiting(), 1)


def rounds(method, device, dataset="nature", **settings):
    run = from_profile(dataset, method, "smoke", **{"rounds": 2, "shots": 8, "local_epochs": 10} | settings)
    return list(prepare(run, Place(device=device)).federation.rounds())


@needs_gpu
@pytest.mark.parametrize("method", [
    FedOTP(), PFedMoAP(), PromptFL(), FedPer(), FedPGP(), FedAMP(), FedProx(), PFedPrompt(),
], ids=lambda method: method.name)
def test_losses_on_a_gpu_are_those_of_the_cpu(method):
    for ours, expected in zip(rounds(method, "cuda"), rounds(method, "cpu"), strict=True):
        assert list(ours.losses) == list(expected.losses)
        np.testing.assert_allclose(list(ours.losses.values()), list(expected.losses.values()), rtol=1e-3)


@needs_gpu
def test_a_gpu_replays_the_steps_of_the_main_method(monkeypatch):
    replayed, capture_for = [], graphs.capture_for

    def counted(step):
        replay = capture_for(torch.device("cuda"))(step)
        return lambda: [replay(), replayed.append(step)]

    monkeypatch.setattr(graphs, "capture_for", lambda device: counted)
    rounds(PFedMoAP(), "cuda")
    assert len(replayed) > 2 * graphs.PAYS  # one replay is the check; if it fails there is no other


@needs_gpu
def test_bf16_on_a_gpu_keeps_the_accuracy():
    def mean(precision):
        return np.mean([rounds(PFedMoAP(), "cuda", seed=seed, rounds=4, shots=16, precision=precision)[-1].accuracy
                        for seed in (1, 2, 3)])

    assert abs(mean("bf16") - mean("fp32")) <= 0.003
