"""What can be audited, what is refused, and how the command ends."""

import json

import pytest

from pfedmoap.audit import find_targets
from pfedmoap.commands import main
from pfedmoap.errors import UserError
from pfedmoap.methods import METHODS

FORGETFUL = '''
from dataclasses import dataclass
from pfedmoap.methods import PFedMoAP


@dataclass(frozen=True)
class Forgetful(PFedMoAP):
    def _choose(self, server, client):
        return [client]
'''
CLAIMLESS = "class Foreign:\n    def start(self): ...\n    local_step = upload = aggregate = predict = start\n"


def test_methods_are_found_by_name_and_by_title():
    assert [target.name for target in find_targets("all")] == list(METHODS)
    assert [target.name for target in find_targets("Prompt+FedProx")] == ["fedprox"]


@pytest.mark.parametrize(("text", "message"), [
    ("import nothing_like_it\n", "cannot be executed, mend it first: ModuleNotFoundError"),
    ("x = 1\n", "neither a Method nor a class with the functions start, local_step"),
    (CLAIMLESS, "Foreign in .* claims nothing"),
])
def test_files_with_nothing_to_audit_are_refused(tmp_path, text, message):
    (tmp_path / "code.py").write_text(text)
    with pytest.raises(UserError, match=message):
        find_targets(str(tmp_path / "code.py"))


def test_unknown_targets_are_refused():
    with pytest.raises(UserError, match="did you mean 'pfedmoap'"):
        find_targets("pfedmoab")
    with pytest.raises(UserError, match="There is no Python file gone.py"):
        find_targets("gone.py")


def called(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        main(["audit", *arguments])
    out, err = capsys.readouterr()
    return left.value.code, out, err


def test_a_check_that_fails_gives_exit_code_1_and_its_name(tmp_path, capsys):
    (tmp_path / "forgetful.py").write_text(FORGETFUL)
    code, out, err = called(capsys, str(tmp_path / "forgetful.py"), "--check", "neighbours", "--check", "names")
    assert code == 1 and "1 passes, 1 fails" in out and "1 checks failed: pfedmoap: neighbours" in err


def test_what_the_released_code_documents_is_no_failure_and_json_is_all_there_is(capsys):
    code, out, _ = called(capsys, "pfedmoap", "--protocol", "released", "--check", "neighbours", "--json")
    (found,) = json.loads(out)
    assert code == 0 and found["verdict"] == "as documented" and found["target"] == "pfedmoap"
    assert called(capsys, "pfedmoap", "--check", "neighbors")[0] == 2
