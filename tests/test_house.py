"""The house: which room may import which, that rooms are entered by their doors, and that the root is small."""

import ast
import collections
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pfedmoap"
ROOT, BASE = "the paper", "errors and randomness"  # the root's modules; those of them that everything may import
# Room -> what it may import beside itself and the base. `released` is what the released code does, below the
# experiments that can switch it on; `released.study` compares the two, above the reports that it makes.
ALLOWED = {
    BASE: set(),
    ROOT: {BASE},
    "methods": {ROOT},
    "protection": {ROOT},
    "system": set(),
    "data": {ROOT, "system"},
    "embedded": {ROOT, "data"},
    "released": {ROOT, "methods", "data"},
    "audit": {ROOT, "methods", "data", "released"},
    "beyond": {ROOT, "data"},
    "experiments": {ROOT, "methods", "data", "embedded", "released", "beyond", "system"},
    "reports": {ROOT, "methods", "data", "experiments", "system"},
    "released.study": {ROOT, "methods", "data", "released", "experiments", "reports", "system"},
    "beyond.study": {ROOT, "methods", "beyond", "experiments", "reports", "system"},
    "leakage": {ROOT, "methods", "data", "released", "protection", "experiments", "reports", "system"},
    "poisoning": {ROOT, "methods", "data", "released", "protection", "experiments", "reports", "flower", "system"},
    "teaching": {ROOT, "methods", "data", "experiments", "reports"},
    "flower": {ROOT, "protection", "experiments", "system"},
    "batch": {"system"},
    "commands": {ROOT, "methods", "data", "embedded", "released", "protection", "audit", "experiments", "reports",
                 "flower", "batch", "system", "teaching"},
}
LIBRARIES = {  # the only rooms, or modules, that may import a library
    "flwr": ("flower",),
    "datasets": ("data.hub", "data.partitioners"),
    "flwr_datasets": ("data.partitioners",),
    "pyarrow": ("data.hub",),
    "onnx": ("experiments.exporting",),
    "ray": ("experiments.ray",),
    "typer": ("commands",),
    "papermill": ("batch",),
    "ipywidgets": ("teaching",),
}
OF_ONE_METHOD = {("methods.logistic_regression", "sklearn")}
OF_THE_ROOT = {"lazy_loader", "numpy", "open_clip", "PIL", "safetensors", "torch", "torchvision", "dp_accounting"}
FILES = sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    """ "experiments.store" for pfedmoap/experiments/store.py; the package itself is ""."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


MODULES = {dotted(path): path for path in FILES}
DOORS = sorted(module for module, path in MODULES.items() if path.name == "__init__.py")


def room(module: str) -> str:
    first, _, rest = module.partition(".")
    if rest.split(".")[0] == "study" and (PACKAGE / first / "study").is_dir():
        return f"{first}.study"
    if first in ("errors", "randomness"):
        return BASE
    return first if (PACKAGE / first).is_dir() and first else ROOT


def imports(path: Path) -> list[tuple[str, str, int]]:
    """Every import in a file: (module, name in it or "", line)."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, "", node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            found += [(node.module, alias.name, node.lineno) for alias in node.names]
    return found


def inner(path: Path) -> list[tuple[str, str, int]]:
    """The imports of the package's own modules: (module without "pfedmoap.", name in it, line)."""
    return [(module.removeprefix("pfedmoap").lstrip("."), name, line) for module, name, line in imports(path)
            if module.split(".")[0] == "pfedmoap"]


def target(module: str, name: str) -> str:
    """The module that an import reaches: the name, if it is one."""
    full = f"{module}.{name}".lstrip(".")
    return full if full in MODULES else module


def exported(package: str) -> set[str]:
    """The names that a room's door leads to."""
    names = set()
    for node in ast.walk(ast.parse(MODULES[package].read_text())):
        if isinstance(node, ast.keyword) and node.arg == "submodules":
            names.update(ast.literal_eval(node.value))
        elif isinstance(node, ast.keyword) and node.arg == "submod_attrs":
            names.update(name for each in ast.literal_eval(node.value).values() for name in each)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names.update(ast.literal_eval(node.value))
    return names


def test_every_room_has_its_place():
    rooms = {room(module) for module in MODULES}
    assert rooms == set(ALLOWED)


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_imports_run_downwards_only(name):
    wrong = [f"{module}:{line} imports {target(*reached)}"
             for module, path in MODULES.items() if room(module) == name and module not in ("", "__main__")
             for *reached, line in inner(path) if room(target(*reached)) not in {name, BASE, *ALLOWED[name]}]
    assert wrong == []


def test_rooms_are_entered_by_their_doors():
    def by_the_door(module: str, other: str, name: str) -> bool:
        if room(target(other, name)) in (room(module), ROOT, BASE) or other in ("", room(module).split(".")[0]):
            return True
        same_folder = other.split(".")[0] == module.split(".")[0]
        return same_folder or MODULES[other].name == "__init__.py" and name in exported(other)

    wrong = [f"{module}:{line} imports {name} of {other}" for module, path in MODULES.items()
             for other, name, line in inner(path) if not by_the_door(module, other, name)]
    assert wrong == []


@pytest.mark.parametrize("package", DOORS)
def test_doors_say_what_the_room_is_for_and_lead_to_what_they_name(package):
    name = f"pfedmoap.{package}".rstrip(".")
    assert ast.get_docstring(ast.parse(MODULES[package].read_text()))
    if package == "flower":
        pytest.importorskip("flwr", reason="Flower is an optional extra: `make flower-check` installs it")
    module = __import__(name, fromlist=["_"])
    assert [each for each in module.__all__ if getattr(module, each, None) is None] == []


def test_the_plain_round_loop_knows_nothing_of_the_released_code_and_of_batches_of_seeds():
    code = ("import sys; import pfedmoap.federation, pfedmoap.methods, pfedmoap.evaluation; "
            "print([name for name in sys.modules if name.startswith(('pfedmoap.released', 'pfedmoap.experiments'))])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    words = ("released", "shared_optimizer", "sequential", "fixed_order", "float16", "protocol")
    text = (PACKAGE / "federation.py").read_text() + (PACKAGE / "client.py").read_text()
    assert [word for word in words if word in text] == []


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys; import pfedmoap; print(sorted(sys.modules.keys() & {'torch', 'numpy', 'pandas', 'typer'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_root_needs_few_libraries():
    found = {(dotted(path), module.split(".")[0]) for path in FILES if room(dotted(path)) in (ROOT, BASE, "methods")
             for module, _, _ in imports(path)}
    assert OF_ONE_METHOD <= found
    assert {library for _, library in found - OF_ONE_METHOD} - sys.stdlib_module_names - {"pfedmoap"} <= OF_THE_ROOT


def test_a_library_stays_in_its_room():
    wrong = [f"{dotted(path)}:{line} imports {module}" for path in FILES for module, _, line in imports(path)
             if (rooms := LIBRARIES.get(module.split(".")[0])) and not dotted(path).startswith(rooms)]
    assert wrong == []


def test_the_root_is_small_and_no_file_is_long():
    lines = {dotted(path): len(path.read_text().splitlines()) for path in FILES}
    root = {module: count for module, count in lines.items() if "." not in module and room(module) in (ROOT, BASE)}
    assert len(root.keys() - {"", "__main__"}) <= 14 and sum(root.values()) <= 2500
    assert max(lines.values()) < 320
    assert sorted(lines.values())[len(lines) // 2] < 100


def test_algorithm_1_fits_on_a_screen():
    tree = ast.parse((PACKAGE / "federation.py").read_text())
    (run_round,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "run_round"]
    lines = (PACKAGE / "federation.py").read_text().splitlines()[run_round.lineno - 1 : run_round.end_lineno]
    steps = [line.partition("  # ")[2].partition(".")[0] for line in lines if "  # " in line]
    assert len(lines) <= 30 and steps == ["1", "2", "3", "4", "5", "6", "7"]


def test_no_two_test_modules_share_a_name():
    """pytest imports every test file under its bare name: of two that share it, the second is an error, not a test."""
    names = collections.Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
