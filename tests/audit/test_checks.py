"""All our methods pass under both protocols or are flagged; each planted fault is found by its check."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from planted import PLANTED

from pfedmoap.audit import CHECKS, Claims, MethodAdapter, audit, golden_case
from pfedmoap.audit.findings import DOCUMENTED, FAILS, NOT_APPLICABLE, PASSES
from pfedmoap.audit.ours import EXPLAINED, small
from pfedmoap.methods import METHODS, FedProx, PFedMoAP, PromptFL
from pfedmoap.released import RELEASED, SWITCHES, released

STOPS = {"LeavesOutTheFirstClient", "DividesByTheSpreadOfLabels", "NeedsAnExpert"}  # whose fault is that they stop


@pytest.mark.parametrize("name", METHODS)
def test_our_methods_pass(name):
    findings = {one.check: one for one in audit(MethodAdapter(small(METHODS[name])))}
    assert {check: one.words for check, one in findings.items() if one.verdict == FAILS} == {}
    assert [check for check, one in findings.items() if one.verdict == DOCUMENTED] == (
        ["gradients"] if name == "fedotp" else [])


@pytest.mark.parametrize("name", METHODS)
def test_as_in_the_released_code_they_pass_or_are_flagged(name):
    findings = {one.check: one for one in audit(MethodAdapter(small(METHODS[name]), RELEASED))}
    assert {check: one.words for check, one in findings.items() if one.verdict == FAILS} == {}
    if findings["moves"].verdict != NOT_APPLICABLE:  # what is trained on images, that have other images' labels
        assert findings["pairing"].verdict == DOCUMENTED and "label_pairing" in findings["pairing"].words
    assert findings["names"].verdict in (DOCUMENTED, NOT_APPLICABLE)


@pytest.mark.parametrize(("switch", "check", "method"), [
    ("label_pairing", "pairing", PromptFL), ("label_pairing", "own_labels", PromptFL),
    ("class_names", "names", PromptFL),
    ("expert_selection", "neighbours", PFedMoAP), ("optimizer", "learning_rate", PromptFL),
    ("optimizer", "momentum", PromptFL), ("round_order", "order", PFedMoAP), ("fedprox_gradient", "gradients", FedProx),
    ("precision", "momentum", PromptFL),
])  # fmt: skip
def test_each_switch_that_is_a_fault_is_found_and_flagged_by_name(switch, check, method):
    (found,) = audit(MethodAdapter(small(method), released(switch)), [check])
    assert found.verdict == DOCUMENTED and found.words.startswith(f"the released code's {switch}:")


def test_every_explanation_is_of_a_switch_and_of_checks():
    assert set(EXPLAINED) <= set(SWITCHES)
    assert {check for checks in EXPLAINED.values() for check in checks} <= set(CHECKS)


@pytest.mark.parametrize("fault", PLANTED)
def test_every_planted_fault_is_found_by_its_check(fault):
    check, make = PLANTED[fault]
    (found,) = audit(make(), [check])
    assert found.verdict == FAILS
    assert found.words.startswith("stopped with") == (fault in STOPS)


def test_every_check_has_a_planted_fault():
    assert {check for check, _ in PLANTED.values()} == set(CHECKS)


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_names_from_a_set_are_found_whatever_the_hash_seed(hash_seed):
    code = ("from planted import PLANTED; from pfedmoap.audit import audit; "
            "check, make = PLANTED['NamesFromAnUnorderedSet']; print(audit(make(), [check])[0].verdict)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parent, env=os.environ | {"PYTHONHASHSEED": hash_seed})
    assert done.stdout.split() == [FAILS]


def test_what_is_claimed_but_is_not_so_is_found():
    adapter = MethodAdapter(PromptFL())
    for claims, check in ((Claims(averaged=("prompt",), personal=("own",)), "personal"),
                          (Claims(averaged=("prompt",), optimizer="continues"), "momentum"),
                          (Claims(averaged=("prompt",), last_batch="kept"), "last_batch")):
        adapter.claims = claims
        assert audit(adapter, [check])[0].verdict == FAILS
    adapter.claims = Claims(averaged=("prompt",), sgd=False)
    assert audit(adapter, ["gradients"])[0].verdict == NOT_APPLICABLE


def test_a_finding_has_words_and_numbers_fit_for_json():
    (found,) = audit(MethodAdapter(small(PFedMoAP)), ["neighbours"])
    assert found.verdict == PASSES and json.loads(json.dumps(found.evidence))["on a line, with ties: 0"] == [1, 2]


def test_our_adapter_predicts_what_the_federation_tests():
    case, adapter = golden_case(), MethodAdapter(small(PFedMoAP))
    adapter.start(case)
    for _ in range(2):
        for client in range(case.clients):
            adapter.local_step(client, adapter.run.plan.recipe)
        adapter.aggregate({client: adapter.upload(client) for client in range(case.clients)})
    for client, rows in enumerate(map(torch.from_numpy, case.test_rows)):
        answers = adapter.predict(client, case.test.features[rows]).argmax(1)
        assert (answers == case.test.labels[rows]).double().mean().item() == pytest.approx(
            adapter.run.history[-1].accuracies[client])
