"""The frozen CLIP: loading, tokens, image features and hand-written text features.

Any open_clip model whose text tower is CLIP's own (causal attention, pooled at EOT) can be used: by name and
pretrained tag, by name and local file, or as shipped in `pfedmoap/embedded` (the default).
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import QuickGELU
from PIL import Image
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torchvision import transforms
from torchvision.transforms import functional as TF

from pfedmoap.checkpoints import ASSETS, find_weights, read_state_dict
from pfedmoap.errors import UserError

PREPROCESSING = {"embedded_clip": {"mean": (0.5,) * 3, "std": (0.5,) * 3}}  # where open_clip's own is another
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
    def preprocessing(self) -> PreprocessCfg:
        """The model's own: size, mean, standard deviation, interpolation."""
        return PreprocessCfg(**open_clip.get_model_preprocess_cfg(self.model))

    @cached_property
    def _test_view(self) -> Callable[[Image.Image], Image.Image]:
        """The model's own preprocessing, without what `normalise` does."""
        *view, to_tensor, normalise = image_transform_v2(self.preprocessing, is_train=False).transforms
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
        return torch.tensor([self.preprocessing.mean, self.preprocessing.std])[..., None, None].to(self.device)

    def normalise(self, pixels: Tensor) -> Tensor:
        """By the model's mean and standard deviation: (..., 3, H, W), uint8 -> fp32."""
        mean, std = self._mean_and_std.to(pixels.device)
        return pixels.float().div_(255).sub_(mean).div_(std)

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Normalised global features. (B, 3, H, W) -> (B, d), fp32, on the CLIP's device."""
        return self._encoded(self.model.visual, images)

    @torch.no_grad()
    def encode_spatial(self, images: Tensor) -> Tensor:
        """Normalised features of every image position, in the joint space. (B, 3, H, W) -> (B, M, d), fp32.

        ResNets run their attention pool with every position as a query and drop the pooled one; ViTs apply the final
        norm and projection to every patch token and drop the class token (SPEC 8, FedOTP). Timm's convolutional towers
        treat every position as a map of its own.
        """
        return self._encoded(partial(_position_features, self.model.visual), images)

    def _encoded(self, tower: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Normalised; timm's towers take few images at a time on CPUs, as more would not stay in the cache."""
        images = images.to(self.device, self.dtype)
        if torch.compiler.is_exporting():  # a graph takes any number of images, and has no loop over parts
            return F.normalize(tower(images).float(), dim=-1)
        size = len(images)
        if isinstance(self.model.visual, TimmModel) and self.device.type == "cpu":
            images, size = images.contiguous(memory_format=torch.channels_last), 8
        return F.normalize(torch.cat([tower(part) for part in images.split(size)]).float(), dim=-1)

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


def _build(name: str, quick_gelu: bool) -> torch.nn.Module:
    """The architecture, whose weights are loaded next; until then open_clip warns that they are random."""
    logging.disable(logging.WARNING)
    try:
        with _Undrawn():
            return open_clip.create_model(name, force_quick_gelu=quick_gelu, pretrained_text=False,
                                          force_preprocess_cfg=PREPROCESSING.get(name))
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


def _position_features(visual, images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, M, d)."""
    if isinstance(visual, TimmModel):
        maps = visual.trunk.forward_features(images)  # (B, c, h, w)
        if maps.ndim != 4:
            raise UserError("This CLIP's image tower maps no positions: leave FedOTP out, or use another --model.")
        positions = maps.flatten(2).transpose(1, 2)  # (B, M, c)
        pooled = visual.trunk.forward_head(positions.flatten(0, 1)[..., None, None])  # (B*M, c)
        return visual.head(pooled).unflatten(0, positions.shape[:2])
    if isinstance(visual, open_clip.modified_resnet.ModifiedResNet):
        images = visual.layer2(visual.layer1(visual.stem(images)))
        return _attention_pool_all(visual.attnpool, visual.layer4(visual.layer3(images)))
    tokens = visual.transformer(visual._embeds(images))[:, 1:]  # (B, M, width)
    return visual.ln_post(tokens) @ visual.proj


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
