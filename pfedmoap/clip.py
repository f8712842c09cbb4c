"""The frozen CLIP: loading, tokens, image features and hand-written text features.

Any open_clip model whose text tower is CLIP's own (causal attention, pooled at EOT) can be used: by name and
pretrained tag, by name and local file, or as shipped in `pfedmoap/embedded` (the default).
"""

import hashlib
import json
import logging
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import QuickGELU
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torchvision import transforms
from torchvision.transforms import functional as TF

from pfedmoap.errors import UserError

OPENAI_SCALARS = ("input_resolution", "context_length", "vocab_size")  # what OpenAI's state dicts hold besides weights
ASSETS = Path(__file__).resolve().with_name("embedded") / "assets"  # the shipped CLIP
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

logger = logging.getLogger(__name__)
open_clip.add_model_config(ASSETS)


@dataclass(frozen=True, eq=False)
class Clip:
    """A frozen CLIP in eval mode.

    Attributes:
        name: open_clip's model name.
        weights: where the weights came from: pretrained tag or file name.
        model: open_clip's model; nothing in it has a gradient.
        device, dtype: where and in which precision the towers run; features always come out in fp32.
    """

    name: str
    weights: str
    model: open_clip.CLIP
    device: torch.device
    dtype: torch.dtype

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over configuration, activation and weights: what the features depend on."""
        digest = hashlib.sha256(f"{self.dtype} {self.quick_gelu}".encode())
        digest.update(json.dumps(open_clip.get_model_config(self.name), sort_keys=True).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    @property
    def quick_gelu(self) -> bool:
        return isinstance(self.model.transformer.resblocks[0].mlp.gelu, QuickGELU)

    @property
    def embed_dim(self) -> int:
        """d, the joint feature width."""
        return self.model.text_projection.shape[1]

    @property
    def token_width(self) -> int:
        """e, the width of a context token."""
        return self.model.token_embedding.weight.shape[1]

    @property
    def image_size(self) -> int:
        size = self.model.visual.image_size
        return size if isinstance(size, int) else size[0]

    @cached_property
    def positions(self) -> int:
        """M, the image positions that `encode_spatial` gives features of."""
        return self.encode_spatial(torch.zeros(1, 3, self.image_size, self.image_size)).shape[1]

    @cached_property
    def logit_scale(self) -> float:
        """s = 1 / tau; the logits are s times a cosine."""
        return self.model.logit_scale.float().exp().item()

    @cached_property
    def tokenizer(self):
        return open_clip.get_tokenizer(self.name)

    @cached_property
    def _preprocessing(self) -> PreprocessCfg:
        return PreprocessCfg(**open_clip.get_model_preprocess_cfg(self.model))

    @cached_property
    def _test_view(self) -> Callable[[Image.Image], Image.Image]:
        """The model's own preprocessing, without what `normalise` does."""
        *view, to_tensor, normalise = image_transform_v2(self._preprocessing, is_train=False).transforms
        assert isinstance(to_tensor, transforms.ToTensor) and isinstance(normalise, transforms.Normalize)
        return transforms.Compose(view)

    def preprocess(self, image: Image.Image) -> Tensor:
        """The test view: the model's own resize, centre crop and normalisation. Returns (3, H, W), fp32."""
        return self.normalise(self.plain_pixels(image))

    def plain_pixels(self, image: Image.Image) -> Tensor:
        """The test view before it is normalised: (3, H, W), uint8."""
        return TF.pil_to_tensor(self._test_view(image)).contiguous()

    @cached_property
    def _mean_and_std(self) -> Tensor:
        """(2, 3, 1, 1), on the CLIP's device."""
        return torch.tensor([self._preprocessing.mean, self._preprocessing.std])[..., None, None].to(self.device)

    def normalise(self, pixels: Tensor) -> Tensor:
        """By the model's mean and standard deviation: (..., 3, H, W), uint8 -> fp32."""
        mean, std = self._mean_and_std.to(pixels.device)
        return pixels.float().div_(255).sub_(mean).div_(std)

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Normalised global features. (B, 3, H, W) -> (B, d), fp32, on the CLIP's device."""
        features = self.model.visual(images.to(self.device, self.dtype))
        return F.normalize(features.float(), dim=-1)  # (B, d)

    @torch.no_grad()
    def encode_spatial(self, images: Tensor) -> Tensor:
        """Normalised features of every image position, in the joint space. (B, 3, H, W) -> (B, M, d), fp32.

        ResNets run their attention pool with every position as a query and drop the pooled one; ViTs apply the
        final norm and projection to every patch token and drop the class token (SPEC 8, FedOTP).
        """
        visual, images = self.model.visual, images.to(self.device, self.dtype)
        if isinstance(visual, open_clip.modified_resnet.ModifiedResNet):
            features = _attention_pool_all(visual.attnpool, visual.layer4(visual.layer3(visual.layer2(
                visual.layer1(visual.stem(images))))))  # (B, M, d)
        else:
            tokens = visual.transformer(visual._embeds(images))[:, 1:]  # (B, M, width)
            features = visual.ln_post(tokens) @ visual.proj
        return F.normalize(features.float(), dim=-1)  # (B, M, d)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Normalised features of whole sentences, as zero-shot CLIP uses them. Returns (n, d), fp32."""
        tokens = self.tokenizer(list(texts)).to(self.device)  # (n, context_length)
        return torch.cat([F.normalize(self.model.encode_text(rows).float(), dim=-1) for rows in tokens.split(256)])


@lru_cache(maxsize=4)
def load_clip(
    model: str = "embedded_clip", weights: str | None = None, *, device: str = "cpu", precision: str = "fp32"
) -> Clip:
    """Loads a frozen CLIP; the same arguments give the same object.

    Args:
        model: an open_clip model name (`open_clip.list_models()`); the default is the one in `pfedmoap/embedded`.
        weights: an open_clip pretrained tag ("openai"), or the path of a safetensors file, an open_clip checkpoint
            or a plain state dict in OpenAI's format. None: the weights shipped with the package.
        device: "cpu", "cuda", "cuda:1", ...
        precision: "fp32" or "bf16", of the frozen towers; prompts, gates and features stay fp32.

    Raises:
        UserError: unknown model, tag or file; weights that cannot be had, do not fit, or would execute code.
    """
    if open_clip.get_model_config(model) is None:
        raise UserError(f"open_clip knows no model {model!r}; `open_clip.list_models()` lists the names, for instance "
                        f"RN50-quickgelu, ViT-B-16-quickgelu, or embedded_clip which ships with this package.")
    if precision not in DTYPES:
        raise UserError(f"precision {precision!r} is unknown; use one of {', '.join(DTYPES)}.")
    _refuse_missing_device(device)
    path, quick_gelu = find_weights(model, weights)
    state, openai_format = read_state_dict(path)
    network = _build(model, quick_gelu or openai_format)
    _refuse_other_text_towers(model, network)
    _fit(network, state, model, path)
    network = network.to(device, DTYPES[precision]).eval().requires_grad_(False)
    source = weights if weights and not Path(weights).is_file() else path.name
    clip = Clip(model, source, network, torch.device(device), DTYPES[precision])
    logger.info("%s with weights %s on %s, QuickGELU %s", model, source, device, "on" if clip.quick_gelu else "off")
    return clip


def _refuse_missing_device(device: str) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"Device {device!r} cannot be used here ({str(error).splitlines()[0]}): use --device cpu, or "
                        f"one of the {torch.cuda.device_count()} CUDA devices that PyTorch sees.") from error


def find_weights(model: str, weights: str | None) -> tuple[Path, bool]:
    """The file behind `weights`, and whether its pretrained tag demands QuickGELU."""
    shipped = ASSETS / f"{model}.safetensors"
    tags = open_clip.list_pretrained_tags_by_model(model)
    remedy = f"give a file with --weights PATH, or a pretrained tag of {model} ({', '.join(tags) or 'it has none'})"
    if weights is None:
        if not shipped.is_file():
            raise UserError(f"{model} ships without weights: {remedy}.")
        return shipped, False
    if Path(weights).is_file():
        return Path(weights), False
    if weights not in tags:
        raise UserError(f"{weights!r} is neither a file nor a pretrained tag of {model}: {remedy}.")
    config = open_clip.get_pretrained_cfg(model, weights)
    try:
        return Path(open_clip.download_pretrained(config)), bool(config.get("quick_gelu"))
    except Exception as error:  # whatever the download library raises: no network, no such file, disk full
        where = config.get("hf_hub") or config.get("url")
        raise UserError(f"The weights {model} / {weights} could not be downloaded ({type(error).__name__}). Fetch "
                        f"{where} on a machine with network and {remedy}.") from error


def read_state_dict(path: Path) -> tuple[dict[str, Tensor], bool]:
    """Reads weights without ever executing code from the file.

    Returns:
        The tensors by open_clip's names, and whether the file is in OpenAI's format (which means QuickGELU).
    """
    state = load_file(path) if path.suffix == ".safetensors" else _read_pickled_tensors(path)
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    openai_format = all(name in state for name in OPENAI_SCALARS)
    state = {name: tensor for name, tensor in state.items() if name not in OPENAI_SCALARS}
    if "token_embedding.rows" in state:
        state["token_embedding.weight"] = _full_token_table(state)
    return state, openai_format


def _read_pickled_tensors(path: Path) -> dict:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any("/code/" in name for name in archive.namelist()):
                raise UserError(
                    f"{path} is a TorchScript archive: it holds code, which this package never executes. Use the tag "
                    f"(--weights openai), or convert it once where you trust it: python -c \"import torch; torch.save("
                    f"torch.jit.load('{path.name}', 'cpu').state_dict(), 'weights.pt')\"")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling errors of many kinds; all mean the same to the user
        raise UserError(f"{path} is not a plain file of tensors ({type(error).__name__}): use a safetensors file or a "
                        f"state dict written by torch.save.") from error
    if not isinstance(state, dict):
        raise UserError(f"{path} holds a {type(state).__name__}, not a state dict: save `model.state_dict()`.")
    return state.get("state_dict", state)


def _full_token_table(state: dict[str, Tensor], vocabulary: int = 49408) -> Tensor:
    """The token table of a file that stores only the rows that were trained; the others keep their seeded start."""
    ids, rows = state.pop("token_embedding.ids"), state.pop("token_embedding.rows").float()
    start = np.random.default_rng(0).standard_normal((vocabulary, rows.shape[1]), dtype=np.float32)
    table = torch.from_numpy(start * 0.02)
    table[ids.long()] = rows
    return table


def _build(name: str, quick_gelu: bool) -> torch.nn.Module:
    """The architecture, whose weights are loaded next; until then open_clip warns that they are random."""
    logging.disable(logging.WARNING)
    try:
        with _Undrawn():
            return open_clip.create_model(name, force_quick_gelu=quick_gelu, pretrained_text=False)
    except (ImportError, RuntimeError, OSError) as error:
        raise UserError(f"open_clip cannot build {name!r} here: {error}") from error
    finally:
        logging.disable(logging.NOTSET)


class _Undrawn(TorchFunctionMode):
    """Leaves new weights as they are: drawing them takes longer than loading them, which comes next."""

    DRAWS = ("normal_", "uniform_", "trunc_normal_", "kaiming_uniform_", "xavier_uniform_")  # of Tensor and nn.init

    def __torch_function__(self, function, types, arguments=(), settings=None):
        settings = settings or {}
        if getattr(function, "__name__", None) in self.DRAWS:
            return settings["tensor"] if "tensor" in settings else arguments[0]
        return function(*arguments, **settings)


def _refuse_other_text_towers(name: str, network) -> None:
    if type(network) is not open_clip.CLIP or network.text_pool_type != "argmax" or network.attn_mask is None:
        raise UserError(f"{name} has another text tower than CLIP's (causal, pooled at EOT), so that a learned prompt "
                        f"is not defined for it; use an OpenAI-style CLIP such as RN50 or ViT-B-16.")


def _fit(network: open_clip.CLIP, state: dict[str, Tensor], name: str, path: Path) -> None:
    expected = network.state_dict()
    wrong = [f"{key} is {tuple(state[key].shape)}, not {tuple(value.shape)}"
             for key, value in expected.items() if key in state and state[key].shape != value.shape]
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    wrong += [f"{key} is missing" for key in missing] + [f"{key} is not part of the model" for key in extra]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(f"{path} holds weights of another architecture than {name}: {'; '.join(wrong[:3])}{more}. "
                        f"Choose the --model they belong to.")
    network.load_state_dict(state)


def _attention_pool_all(pool, maps: Tensor) -> Tensor:
    """CLIP's attention pool with all positions as queries, the pooled one dropped. (B, c, h, w) -> (B, h*w, d)."""
    tokens = maps.flatten(2).permute(2, 0, 1)  # (M, B, c)
    tokens = torch.cat([tokens.mean(0, keepdim=True), tokens])  # (1+M, B, c)
    tokens = tokens + pool.positional_embedding[:, None].to(tokens.dtype)
    bias = torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias])
    output, _ = F.multi_head_attention_forward(
        tokens, tokens, tokens, tokens.shape[-1], pool.num_heads, None, bias, None, None, False, 0.0,
        pool.c_proj.weight, pool.c_proj.bias, training=False, need_weights=False, use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight, k_proj_weight=pool.k_proj.weight, v_proj_weight=pool.v_proj.weight)
    return output[1:].transpose(0, 1).contiguous()  # (B, M, d)
