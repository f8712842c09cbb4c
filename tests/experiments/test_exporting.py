"""A personal model as an ONNX file: what onnxruntime computes is what the model computes, for any number of images."""

import json
import subprocess
import sys
from dataclasses import replace

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from pfedmoap import experiments, gating
from pfedmoap.errors import UserError
from pfedmoap.experiments import Personalised, Place, prepare
from pfedmoap.methods import FedAvgProbe, FedOTP, PFedMoAP, PromptFL
from pfedmoap.system.paths import NOTEBOOKS

NO_ONNX = "ONNX is an optional extra: pip install 'pfedmoap[onnx]'"
EXPERIMENT = experiments.from_profile("digits", PFedMoAP(), "smoke", clients=4, shots=8, local_epochs=1)
NAMES = ("cat", "dog", "owl")


@pytest.fixture(scope="module")
def runtime():
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name, reason=NO_ONNX)
    return pytest.importorskip("onnxruntime", reason=NO_ONNX)


@pytest.fixture(scope="module")
def trained(features_cache):
    def trained(method) -> Personalised:
        prepared = prepare(replace(EXPERIMENT, method=method), Place(cache=features_cache))
        list(prepared.federation.rounds())
        return Personalised.of(prepared, 1)

    return trained


@pytest.fixture
def tiny(tiny_clip):
    """A personal model of a tiny CLIP, untrained, with two experts and a gate."""
    method = PFedMoAP(d_gating=16, heads=4)
    model = {"prompt": torch.randn(4, 32, generator=torch.manual_seed(1))} | gating.initial_gate(16, 0, 0)
    lent = {"prompt": model["prompt"], "experts": torch.randn(2, 4, 32, generator=torch.manual_seed(2))}
    return Personalised(method, NAMES, tiny_clip, None, model, lent)


def the_notebooks_cell() -> str:
    cells = nbformat.read(NOTEBOOKS / "02_your_own_data.ipynb", as_version=4).cells
    (cell,) = [cell.source for cell in cells if "onnxruntime.InferenceSession" in cell.source]
    return cell


def assert_same(session, images, expected):
    """The session's answers to one image, and to all of them."""
    (given,) = session.get_inputs()
    for count in (1, len(images)):
        answers = session.run(None, {given.name: images[:count].numpy()})
        assert len(answers) == len(expected)
        for ours, theirs in zip(expected, answers, strict=True):
            np.testing.assert_allclose(theirs, ours[:count].numpy(), atol=1e-4)


@pytest.mark.parametrize("method, gated", [
    (PFedMoAP(), True),
    (PFedMoAP(moe_similarity="cosine", pooling="average"), True),
    (PFedMoAP(gate="linear"), False),
    (PFedMoAP(gate="none"), False),
    (PromptFL(), False),
    (FedAvgProbe(), False),
], ids=lambda value: getattr(value, "name", value))  # fmt: skip
def test_answers_to_features_are_the_models_for_any_number_of_images(runtime, trained, tmp_path, method, gated):
    personal = trained(method)
    personal.export_onnx(tmp_path / "client.onnx")
    row = personal.encode(torch.zeros(1, 3, 160, 160)).shape[1:]
    features = F.normalize(torch.randn(7, *row, generator=torch.manual_seed(0)), dim=-1)
    with torch.no_grad():
        probabilities, weights = personal.answers(features)
    session = runtime.InferenceSession(tmp_path / "client.onnx")
    assert [each.name for each in session.get_inputs()] == ["features"]
    assert [each.name for each in session.get_outputs()] == ["probabilities", "gate_weights"][: 1 + gated]
    assert weights.shape == (7, 10, 4 * gated)
    assert_same(session, features, [probabilities, weights][: 1 + gated])
    assert (tmp_path / "client.onnx").stat().st_size < 500_000


def test_with_the_image_tower_it_takes_pixels(runtime, tiny, tmp_path):
    tiny.export_onnx(tmp_path / "client.onnx", image_tower=True)
    pixels = torch.randn(5, 3, 16, 16, generator=torch.manual_seed(0))
    with torch.no_grad():
        expected = tiny.answers(tiny.encode(pixels))
    session = runtime.InferenceSession(tmp_path / "client.onnx")
    assert session.get_inputs()[0].name == "pixels"
    assert_same(session, pixels, expected)


@pytest.mark.parametrize("image_tower", [False, True])
def test_fedotp_sees_every_image_position_and_its_problems_stop_by_themselves(runtime, tiny, tmp_path, image_tower):
    prompts = {"prompt": tiny.model["prompt"], "own": tiny.lent["experts"][0]}
    personal = replace(tiny, method=FedOTP(iterations=6, threshold=0.02), model=prompts)
    personal.export_onnx(tmp_path / "client.onnx", image_tower)
    pixels = torch.randn(5, 3, 16, 16, generator=torch.manual_seed(0))
    with torch.no_grad():
        features = personal.encode(pixels)  # (5, 16, 32)
        expected = personal.answers(features)[:1]
    assert_same(runtime.InferenceSession(tmp_path / "client.onnx"), pixels if image_tower else features, expected)


def test_metadata_say_what_the_file_is_and_how_images_are_prepared(runtime, tiny, tmp_path):
    tiny.export_onnx(tmp_path / "client.onnx")
    known = runtime.InferenceSession(tmp_path / "client.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(known["class_names"]) == list(NAMES) and known["method"] == "pFedMoAP"
    assert json.loads(known["logit_scale"]) == pytest.approx(tiny.clip.logit_scale)
    assert json.loads(known["image_size"]) == [16, 16]
    mean, std = (np.array(json.loads(known[key])) for key in ("mean", "std"))
    gray = torch.full((3, 2, 2), 51, dtype=torch.uint8)
    np.testing.assert_allclose((0.2 - mean) / std, tiny.clip.normalise(gray)[:, 0, 0], rtol=1e-5)
    assert str(tmp_path).encode() not in (tmp_path / "client.onnx").read_bytes()


def test_what_cannot_be_exported_is_refused(tiny, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxscript", None)
        with pytest.raises(UserError, match=r"pip install 'pfedmoap\[onnx\]'"):
            tiny.export_onnx(tmp_path / "client.onnx")
    pytest.importorskip("onnxscript", reason=NO_ONNX)
    with pytest.raises(UserError, match="bf16 does not run everywhere: load the personal model with a CLIP in fp32"):
        replace(tiny, clip=replace(tiny.clip, dtype=torch.bfloat16)).export_onnx(tmp_path / "client.onnx", True)
    assert list(tmp_path.iterdir()) == []


def test_the_notebooks_cell_is_skipped_without_the_extra(capsys):
    exec(the_notebooks_cell(), {"find_spec": lambda name: None})
    assert capsys.readouterr().out.startswith("skipped, as onnxruntime is not installed: pip install 'pfedmoap[onnx]'")


def test_the_notebooks_lines_run_without_this_package_and_without_torch(runtime, trained, tmp_path):
    _, comment, alone = the_notebooks_cell().partition("    # All that is needed elsewhere")
    lines = [line for line in alone.splitlines()[1:] if line and "import" not in line]
    assert comment and len(lines) == 10
    personal = trained(PromptFL())
    personal.export_onnx(tmp_path / "client.onnx", image_tower=True)
    rng = np.random.default_rng(0)
    photograph = Image.fromarray(rng.integers(0, 255, (211, 320, 3), dtype=np.uint8))
    photograph.save(tmp_path / "image.png")
    setting = ("import sys\nsys.modules['torch'] = sys.modules['pfedmoap'] = None\nfrom PIL import Image\n"
               "file, image = 'client.onnx', Image.open('image.png')\nif True:\n")
    done = subprocess.run([sys.executable, "-c", setting + alone.partition("\n")[2]], cwd=tmp_path, capture_output=True,
                          text=True, check=False)
    best = personal.predict(photograph, top=1)
    assert done.stdout == f"without PyTorch: {best.classes[0]}, {100 * best.probabilities[0]:.2f} %\n", done.stderr
