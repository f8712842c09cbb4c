"""Loading weights from every kind of file, QuickGELU, preprocessing, image features."""

import json

import numpy as np
import open_clip
import pytest
import torch
from families import Family, tiny_model
from PIL import Image
from safetensors.torch import save_file

from pfedmoap import clip as clips
from pfedmoap.checkpoints import OPENAI_SCALARS
from pfedmoap.data.views import training_pixels
from pfedmoap.errors import UserError


@pytest.fixture(scope="module")
def tiny_models(tmp_path_factory):
    """Two small architectures registered with open_clip: a ResNet and a ViT, in OpenAI's layout."""
    folder = tmp_path_factory.mktemp("configs")
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
    towers = {"Tiny-RN": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "patch_size": None},
              "Tiny-ViT": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8}}
    for name, vision in towers.items():
        (folder / f"{name}.json").write_text(json.dumps({"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}))
        config = {"embed_dim": 32, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
        (folder / f"{name}-quickgelu.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    return tuple(towers)


def random_state(name) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return open_clip.create_model(name, pretrained_text=False).state_dict()


def openai_state(name) -> dict[str, torch.Tensor]:
    """As OpenAI publishes them: half precision, and three numbers beside the weights."""
    state = {key: value.half() if value.is_floating_point() else value for key, value in random_state(name).items()}
    return state | {key: torch.tensor(77) for key in OPENAI_SCALARS}


def save(state, path, how):
    if how == "safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    elif how == "open_clip checkpoint":
        torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    else:
        torch.save(state, path)
    return str(path)


@pytest.mark.parametrize("how", ["safetensors", "open_clip checkpoint", "state dict"])
@pytest.mark.parametrize("name", ["Tiny-RN", "Tiny-ViT"])
def test_local_files_give_the_weights_they_hold(tiny_models, tmp_path, name, how):
    state = random_state(name)
    path = save(state, tmp_path / ("weights.safetensors" if how == "safetensors" else "weights.pt"), how)
    clip = clips.load_clip(name, path)
    assert all(torch.equal(value, clip.model.state_dict()[key]) for key, value in state.items())
    assert not clip.quick_gelu and not clip.model.training
    assert not any(parameter.requires_grad for parameter in clip.model.parameters())
    images = torch.randn(2, 3, clip.image_size, clip.image_size)
    expected = torch.nn.functional.normalize(clip.model.encode_image(images), dim=-1)
    torch.testing.assert_close(clip.encode_images(images), expected)


@pytest.mark.parametrize("how", ["safetensors", "state dict"])
@pytest.mark.parametrize("name", ["Tiny-RN", "Tiny-ViT"])
def test_openai_files_get_quick_gelu_whatever_the_name_says(tiny_models, tmp_path, name, how):
    path = save(openai_state(name), tmp_path / ("w.safetensors" if how == "safetensors" else "w.pt"), how)
    plain_name, quick_name = clips.load_clip(name, path), clips.load_clip(f"{name}-quickgelu", path)
    assert plain_name.quick_gelu and quick_name.quick_gelu
    texts = ["a photo of a cat.", "a photo of a sea lion."]
    reference = open_clip.model.build_model_from_openai_state_dict(
        {key: value.clone() for key, value in openai_state(name).items()}, cast_dtype=torch.float32).float()
    expected = reference.encode_text(open_clip.tokenize(texts), normalize=True)
    for clip in (plain_name, quick_name):
        torch.testing.assert_close(clip.encode_texts(texts), expected, atol=1e-5, rtol=1e-4)
        assert clip.encode_texts(texts).dtype == torch.float32


def test_the_real_architectures_load_in_openais_format(tmp_path):
    path = save(openai_state("RN50"), tmp_path / "RN50.pt", "state dict")
    clip = clips.load_clip("RN50", path)
    assert (clip.embed_dim, clip.token_width, clip.model.context_length, clip.image_size) == (1024, 512, 77, 224)
    assert clip.quick_gelu and clip.weights == "RN50.pt"
    spatial = clip.encode_spatial(torch.randn(1, 3, 224, 224))
    assert spatial.shape == (1, 49, 1024)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")  # that is how OpenAI's archives were made
def test_torchscript_archives_are_refused_with_the_remedy(tmp_path):
    path = tmp_path / "RN50.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with pytest.raises(UserError, match="never executes.*--weights openai.*torch.jit.load"):
        clips.load_clip("RN50-quickgelu", str(path))


class Malicious:
    def __reduce__(self):
        return (open, ("executed", "w"))


def test_code_in_a_file_is_never_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Malicious()}, "bad.pt")
    with pytest.raises(UserError, match="not a plain file of tensors"):
        clips.load_clip("RN50", "bad.pt")
    assert not (tmp_path / "executed").exists()


def test_weights_of_another_architecture_are_named(tiny_models, tmp_path):
    path = save(random_state("Tiny-RN"), tmp_path / "rn.pt", "state dict")
    with pytest.raises(UserError, match="another architecture than Tiny-ViT.*visual"):
        clips.load_clip("Tiny-ViT", path)


@pytest.mark.parametrize(("model", "weights", "message"), [
    ("RN51", None, "open_clip knows no model 'RN51'"),
    ("RN50-quickgelu", None, "ships without weights.*--weights PATH.*openai"),
    ("RN50-quickgelu", "opneai", "neither a file nor a pretrained tag.*openai"),
    ("embedded_clip", "nowhere.pt", "neither a file nor a pretrained tag"),
])
def test_unknown_names_are_refused_with_what_is_known(model, weights, message):
    with pytest.raises(UserError, match=message):
        clips.load_clip(model, weights)


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(UserError, match=f"'{device}'.*--device cpu"):
        clips.load_clip("embedded_clip", device=device)


def test_weights_that_cannot_be_downloaded_say_what_to_fetch(monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(open_clip, "download_pretrained", unreachable)
    with pytest.raises(UserError, match="could not be downloaded.*Fetch .*RN50|resnet50.*--weights PATH"):
        clips.load_clip("RN50-quickgelu", "openai")


def test_a_tokenizer_that_cannot_be_had_says_what_to_get(tiny_models, tmp_path, monkeypatch):
    def missing(name):
        raise ImportError("No module named 'transformers'")

    clip = clips.load_clip("Tiny-ViT", save(random_state("Tiny-ViT"), tmp_path / "w.pt", "state dict"))
    siglip = clips.Clip("ViT-B-16-SigLIP", "random", clip.model, clip.device, clip.dtype)
    monkeypatch.setattr(open_clip, "get_tokenizer", missing)
    with pytest.raises(UserError, match=r"tokenizer.json of timm/ViT-B-16-SigLIP.*pfedmoap\[towers\].*hf download"):
        siglip.encode_texts(["a cat"])


def test_a_text_tower_that_cannot_be_had_says_what_to_get(tmp_path, monkeypatch):
    def unreachable(*args, **settings):
        raise OSError("no route to host")

    monkeypatch.setattr(open_clip, "create_model", unreachable)
    path = save({"logit_scale": torch.ones(1)}, tmp_path / "w.pt", "state dict")
    with pytest.raises(UserError, match=r"no route to host.*config.json of roberta-base.*pfedmoap\[towers\]"):
        clips.load_clip("roberta-ViT-B-32", path)


def test_images_are_preprocessed_as_the_weights_were_trained(tiny_models, tmp_path, monkeypatch):
    """By the tag, by what all of a model's tags agree on, and else as OpenAI did; the features' key says so."""
    path = save(random_state("Tiny-ViT"), tmp_path / "w.pt", "state dict")
    before = clips.load_clip("Tiny-ViT", path)
    views = {name: dict(mean=(mean,) * 3, std=(0.5,) * 3, interpolation="bilinear", resize_mode="squash", url="")
             for name, mean in (("a", 0.5), ("b", 0.25))}
    tags = ["a"]
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda model: tags)
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda model, tag: views[tag])
    monkeypatch.setattr(open_clip, "download_pretrained", lambda config: path)
    image = Image.fromarray(np.full((70, 50, 3), 255, dtype=np.uint8))
    loaded, cases = {}, (("file of one tag", path, ["a"]), ("tag", "b", ["a", "b"]), ("file", path, ["a", "b"]))
    for name, weights, known in cases:
        tags[:] = known
        clips.load_clip.cache_clear()
        loaded[name] = clips.load_clip("Tiny-ViT", weights)
    white = [clip.preprocess(image).mean().item() for clip in loaded.values()]
    assert white == pytest.approx([1.0, 1.5, before.preprocess(image).mean().item()])
    assert loaded["file"].fingerprint == before.fingerprint
    assert len({clip.fingerprint for clip in loaded.values()}) == 3


def test_weights_by_the_names_of_earlier_releases_are_read(tmp_path):
    """Of a text tower that stood in the model itself, and with a scale of shape (1,)."""
    clip = tiny_model(Family("EVA02-B-16", fast=True), tmp_path)
    state = {key.removeprefix("text."): value.clone() for key, value in clip.model.state_dict().items()}
    state["logit_scale"] = state["logit_scale"].reshape(1)
    older = clips.load_clip(clip.name, save(state, tmp_path / "older.pt", "state dict"))
    torch.testing.assert_close(older.encode_texts(["a cat"]), clip.encode_texts(["a cat"]))
    assert older.logit_scale == clip.logit_scale


def test_a_sigmoids_bias_is_read_and_may_be_missing(tmp_path):
    clip = tiny_model(Family("ViT-B-16-SigLIP", fast=False), tmp_path)
    assert clip.model.logit_bias == -10 and clip.logit_scale == pytest.approx(1 / 0.07)
    state = clip.model.state_dict()
    del state["logit_bias"]
    older = clips.load_clip(clip.name, save(state, tmp_path / "older.pt", "state dict"))
    assert older.model.logit_bias == 0 and older.logit_scale == clip.logit_scale


def test_a_tags_activation_wins_over_the_names(tiny_models, tmp_path, monkeypatch):
    path = save(random_state("Tiny-ViT"), tmp_path / "w.pt", "state dict")
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda model: ["openai"])
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda model, tag: {"quick_gelu": True})
    monkeypatch.setattr(open_clip, "download_pretrained", lambda config: path)
    assert clips.load_clip("Tiny-ViT", "openai").quick_gelu


def test_only_the_stored_token_rows_differ_from_the_seeded_start(tiny_models, tmp_path):
    state = random_state("Tiny-ViT")
    del state["token_embedding.weight"]
    rows = torch.arange(128.0).view(2, 64)
    state |= {"token_embedding.ids": torch.tensor([7, 49406], dtype=torch.int32), "token_embedding.rows": rows.half()}
    clip = clips.load_clip("Tiny-ViT", save(state, tmp_path / "sparse.safetensors", "safetensors"))
    table = clip.model.token_embedding.weight
    assert torch.equal(table[[7, 49406]], rows)
    seeded = np.random.default_rng(0).standard_normal((49408, 64), dtype=np.float32) * 0.02
    others = np.delete(np.arange(49408), [7, 49406])
    np.testing.assert_array_equal(table[others].numpy(), seeded[others])


def test_fingerprints_tell_weights_activation_and_precision_apart(tiny_models, tmp_path):
    state = random_state("Tiny-ViT")
    path = save(state, tmp_path / "a.pt", "state dict")
    other = save(state | {"ln_final.bias": state["ln_final.bias"] + 1e-3}, tmp_path / "b.pt", "state dict")
    prints = [clips.load_clip(*args).fingerprint for args in (
        ("Tiny-ViT", path), ("Tiny-ViT", other), ("Tiny-ViT-quickgelu", path))]
    prints.append(clips.load_clip("Tiny-ViT", path, precision="bf16").fingerprint)
    assert len(set(prints)) == 4
    copy = save(state, tmp_path / "copy.pt", "state dict")
    assert clips.load_clip("Tiny-ViT", copy).fingerprint == prints[0]


def test_bf16_towers_give_fp32_features_close_to_fp32s(tiny_models, tmp_path):
    path = save(random_state("Tiny-ViT"), tmp_path / "w.pt", "state dict")
    full, half = clips.load_clip("Tiny-ViT", path), clips.load_clip("Tiny-ViT", path, precision="bf16")
    images = torch.randn(4, 3, 32, 32)
    assert half.encode_images(images).dtype == torch.float32
    assert (full.encode_images(images) * half.encode_images(images)).sum(-1).min() > 0.99
    assert (full.encode_texts(["a cat."]) * half.encode_texts(["a cat."])).sum() > 0.99


def test_preprocessing_is_open_clips_own(tiny_models, tmp_path):
    clip = clips.load_clip("Tiny-ViT", save(random_state("Tiny-ViT"), tmp_path / "w.pt", "state dict"))
    reference = open_clip.create_model_and_transforms("Tiny-ViT")[2]
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 50, 3), dtype=np.uint8))
    assert torch.equal(clip.preprocess(image), reference(image))
    assert clip.plain_pixels(image).dtype == torch.uint8 and clip.plain_pixels(image).is_contiguous()


def test_augmented_views_are_random_crops_and_repeatable(tiny_models, tmp_path):
    clip = clips.load_clip("Tiny-ViT", save(random_state("Tiny-ViT"), tmp_path / "w.pt", "state dict"))
    rows = np.arange(60)[:, None, None] * np.ones((1, 90, 3))  # brightness says which row a pixel comes from
    image = Image.fromarray(rows.astype(np.uint8))
    views = [training_pixels(image, clip.image_size, np.random.default_rng(seed)) for seed in range(200)]
    assert all(view.shape == (3, 32, 32) and view.dtype == torch.uint8 for view in views)
    assert torch.equal(views[0], training_pixels(image, clip.image_size, np.random.default_rng(0)))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))
    drawn = (training_pixels(noise, clip.image_size, np.random.default_rng(seed)) for seed in range(50))
    assert len({view.numpy().tobytes() for view in drawn}) == 50
    shown = torch.stack([view[0].float().mean(1) for view in views])  # (200, 32)
    heights = (shown[:, -1] - shown[:, 0]) / 60 * 32 / 31
    assert heights.min() < 0.45 and heights.max() > 0.9  # areas from 8 % to 100 %


@pytest.mark.parametrize(("name", "positions"), [("Tiny-RN", 4), ("Tiny-ViT", 16)])
def test_spatial_features_come_from_the_same_tower(tiny_models, tmp_path, name, positions):
    clip = clips.load_clip(name, save(random_state(name), tmp_path / "w.pt", "state dict"))
    images = torch.randn(3, 3, clip.image_size, clip.image_size)
    spatial = clip.encode_spatial(images)
    assert spatial.shape == (3, positions, 32)
    torch.testing.assert_close(spatial.norm(dim=-1), torch.ones(3, positions))
    visual = clip.model.visual
    if name == "Tiny-ViT":  # open_clip's own way to the patch tokens
        visual.output_tokens = True
        tokens = visual(images)[1]
        visual.output_tokens = False
        expected = torch.nn.functional.normalize(tokens @ visual.proj, dim=-1)  # its tokens are normalised already
        torch.testing.assert_close(spatial, expected, atol=1e-5, rtol=1e-4)
    else:  # the pooled token of the same attention is the global feature
        pool, maps = visual.attnpool, visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(images)))))
        module = torch.nn.MultiheadAttention(256, pool.num_heads)
        with torch.no_grad():
            module.in_proj_weight.copy_(torch.cat([pool.q_proj.weight, pool.k_proj.weight, pool.v_proj.weight]))
            module.in_proj_bias.copy_(torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]))
            tokens = maps.flatten(2).permute(2, 0, 1)
            tokens = torch.cat([tokens.mean(0, keepdim=True), tokens]) + pool.positional_embedding[:, None]
            module.out_proj.weight.zero_()
            module.out_proj.weight += torch.eye(256)
            module.out_proj.bias.zero_()
            attended = pool.c_proj(module(tokens, tokens, tokens)[0])
        torch.testing.assert_close(torch.nn.functional.normalize(attended[1:].transpose(0, 1), dim=-1), spatial,
                                   atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(torch.nn.functional.normalize(attended[0], dim=-1), clip.encode_images(images),
                                   atol=1e-5, rtol=1e-4)
