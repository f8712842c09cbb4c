"""`pfedmoap run --dataset folders --data-root DIR`, and nothing else, for every layout that is recognised."""

import json

import pytest
from layouts import write_classes

from pfedmoap import flower
from pfedmoap.commands.app import main

SEVEN = dict.fromkeys(("cat", "dog", "owl", "bus", "car", "tea", "cup"), 5)


@pytest.fixture
def call(capsys, tmp_path):
    """Runs on the pictures in `mine`; returns exit code, standard output and the lines of standard error."""

    def call(*more: str, root="mine") -> tuple[int, str, list[str]]:
        with pytest.raises(SystemExit) as left:
            main(["run", "--dataset", "folders", "--data-root", str(tmp_path / root), "--profile", "smoke", *more,
                  "--results", str(tmp_path / "records"), "--cache-dir", str(tmp_path / "cache"), "--jobs", "1"])
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err.splitlines()

    return call


def write_clients(root, *under):
    """Six clients, each with a class of its own, so that four shots per class would not reach everyone."""
    for client in "abcdef":
        for part in under:
            write_classes(root / "clients" / client / part, {"cat": 4, "dog": 4, client * 3: 4})


def write_csv(root):
    write_classes(root, SEVEN)
    lines = [f"{name}/image_{number:04d}.jpg,{name}" for name, count in SEVEN.items() for number in range(1, count + 1)]
    (root / "mine.csv").write_text("\n".join(["path,label", *lines]))


LAYOUTS = {
    "clients divided": (lambda root: write_clients(root, "train", "test"), "given", 6),
    "clients": (lambda root: write_clients(root, "."), "given", 6),
    "domains": (lambda root: [write_classes(root / name, SEVEN) for name in ("photo", "sketch")], "by_domain", 2),
    "divided": (lambda root: [write_classes(root / part, SEVEN) for part in ("train", "test")], "label_disjoint", 3),
    "classes": (lambda root: write_classes(root, SEVEN), "label_disjoint", 3),
    "few classes": (lambda root: write_classes(root, {"cat": 5, "dog": 5}), "dirichlet", 2),
    "lonely images": (lambda root: write_classes(root, SEVEN | {"sun": 1, "sky": 1}), "label_disjoint", 3),
    "csv": (write_csv, "label_disjoint", 3),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_runs_as_it_is(call, tmp_path, layout):
    write, partition, clients = LAYOUTS[layout]
    write(tmp_path / "mine")
    code, out, err = call("--rounds", "1", "--json", root="mine/mine.csv" if layout == "csv" else "mine")
    assert code == 0, err
    record = json.loads(out)
    assert (record["experiment"]["partition"], record["experiment"]["clients"]) == (partition, clients)
    assert len(record["rounds"][0]["accuracies"]) == clients
    (line,) = [line for line in err if line.startswith("chosen: ")]
    assert line.startswith(f"chosen: --partition {partition} --clients {clients}")
    assert "(to choose otherwise: --partition, --clients" in line


def test_what_is_given_wins(call, tmp_path):
    write_classes(tmp_path / "mine", SEVEN)
    code, out, err = call("--partition", "iid", "--clients", "4", "--rounds", "1", "--json")
    settings = json.loads(out)["experiment"]
    assert code == 0 and (settings["partition"], settings["clients"], settings["shots"]) == ("iid", 4, None)
    assert [line for line in err if line.startswith("chosen: ")][0].startswith("chosen: --shots none, as ")


@pytest.mark.parametrize(("given", "message"), [
    (("--partition", "label_disjoint", "--clients", "9"), "7 classes cannot be dealt to 9 clients: use at most 7"),
    (("--partition", "given"), "folders has no clients of its own: use another protocol than given"),
    (("--clients", "30"), "none of 100 draws from Dir(0.5) gave each of 30 clients a training and a test image"),
])
def test_what_is_given_and_impossible_is_refused_once(call, tmp_path, given, message):
    write_classes(tmp_path / "mine", SEVEN)
    code, out, err = call(*given, "--method", "zero_shot,promptfl", "--seed", "1,2,3")
    assert (code, out) == (2, "")
    assert "\n".join(err).count(message.split(":")[0]) == 1
    assert err[-1].startswith("error: 6 of 6 runs failed: folders-zero_shot-s1-") and " and 5 more: " in err[-1]


def test_clients_that_own_their_pictures_are_not_dealt_anew(call, tmp_path):
    write_clients(tmp_path / "mine", ".")
    code, _, err = call("--clients", "3")
    assert code == 2 and err[-1] == ("error: folders has 6 clients: use --clients 6 with given, or another protocol")


def test_a_clip_that_knows_nothing_of_the_pictures_is_told_once(call, tmp_path):
    write_classes(tmp_path / "mine", SEVEN)
    _, _, err = call("--method", "zero_shot,coop", "--seed", "1,2", "--rounds", "1")
    (line,) = [line for line in err if line.startswith("warning: ")]
    assert "embedded_clip hardly knows these pictures" in line
    assert "--model ViT-B-32-quickgelu --weights openai, or --weights FILE" in line


def test_a_federation_of_them_on_this_machine_is_told_before_anything_is_started(monkeypatch, capsys, tmp_path):
    class Started(Exception):
        pass

    def demonstrate(*_, **__):
        assert "warning: embedded_clip hardly knows these pictures" in capsys.readouterr().err
        raise Started

    monkeypatch.setitem(vars(flower), "require_flower", lambda: None)
    monkeypatch.setitem(vars(flower), "demonstrate", demonstrate)
    write_classes(tmp_path / "mine", SEVEN)
    with pytest.raises(Started):
        main(["federate", "demo", "--dataset", "folders", "--data-root", str(tmp_path / "mine"),
              "--cache-dir", str(tmp_path / "cache"), "--folder", str(tmp_path / "federation")])


def test_odd_files_are_counted_on_the_terminal(call, tmp_path):
    write_classes(tmp_path / "mine", SEVEN)
    (tmp_path / "mine" / ".DS_Store").touch()
    _, _, err = call("--method", "zero_shot")
    assert err[0].startswith("data: ") and err[0].endswith("; left out: 1 hidden file")
