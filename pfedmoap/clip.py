"""The frozen CLIP: loading, tokens, image features and hand-written text features.

Any open_clip model can be used: by name and pretrained tag, by name and local file, or as shipped in
`pfedmoap/embedded` (the default). Some tokenizers and text towers are the transformers package's, which an optional
extra installs (`towers`).
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
import torch.nn.functional as F
from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import QuickGELU
from PIL import Image
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torchvision import transforms
from torchvision.transforms import functional as TF

from pfedmoap.checkpoints import ASSETS, PREPROCESSING, VIEW, find_view, find_weights, fit_weights, read_state_dict
from pfedmoap.errors import UserError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

NO_POSITIONS = "This CLIP's image tower maps no positions: leave FedOTP out, or use another --model."
TRANSFORMERS = ("`pip install 'pfedmoap[towers]'` installs the transformers package, and `hf download {repository}` on "
                "a machine with network fetches the files, into the folder that HF_HOME names and that can be copied.")

logger = logging.getLogger(__name__)
open_clip.add_model_config(ASSETS)


class Marks(NamedTuple):
    """The tokens that a tokenizer puts around a sentence.

    Attributes:
        start: before it; none for SigLIP and mT5.
        end: right behind it; padding itself where no other token ends a sentence (SigLIP, CLIPA).
        padding: behind that, up to the context length.
    """

    start: tuple[int, ...]
    end: int
    padding: int


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
    model: open_clip.CLIP | open_clip.CustomTextCLIP | open_clip.CoCa
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
        view, usual = asdict(self.preprocessing), asdict(PreprocessCfg()) | PREPROCESSING.get(self.name, {})
        if other := {key: view[key] for key in VIEW if view[key] != usual[key]}:
            digest.update(json.dumps(other, sort_keys=True).encode())
        return digest.hexdigest()

    @property
    def text_tower(self) -> Any:
        """What holds the text tower's modules: `model.text`, or in OpenAI's layout the model itself."""
        return getattr(self.model, "text", self.model)

    @property
    def token_embedding(self) -> torch.nn.Embedding:
        """Token ids -> (..., e)."""
        tower = self.text_tower
        return tower.transformer.get_input_embeddings() if isinstance(tower, HFTextEncoder) else tower.token_embedding

    @property
    def quick_gelu(self) -> bool:
        """Whether the text tower has OpenAI's approximation of GELU."""
        return any(isinstance(module, QuickGELU) for module in self.text_tower.modules())

    @property
    def embed_dim(self) -> int:
        """d, the joint feature width."""
        tower = self.text_tower
        return tower.output_dim if hasattr(tower, "output_dim") else tower.text_projection.shape[1]

    @property
    def token_width(self) -> int:
        """e, the width of a context token."""
        return self.token_embedding.embedding_dim

    @property
    def context_length(self) -> int:
        """The number of tokens that every sentence is padded to."""
        tower = self.text_tower
        return self.tokenizer.context_length if isinstance(tower, HFTextEncoder) else tower.context_length

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
        """s = 1 / tau; the logits are s times a cosine.

        SigLIP adds a bias to all logits for its sigmoid, which a softmax over classes does not see.
        """
        return self.model.logit_scale.float().exp().item()

    @cached_property
    def tokenizer(self) -> Any:
        try:
            return open_clip.get_tokenizer(self.name)
        except Exception as error:  # whatever the transformers package raises: not installed, no network, no such file
            repository = open_clip.get_model_config(self.name)["text_cfg"].get("hf_tokenizer_name")
            raise UserError(f"The tokenizer of {self.name}, tokenizer.json of {repository}, cannot be had "
                            f"({type(error).__name__}): {TRANSFORMERS.format(repository=repository)}") from error

    @cached_property
    def marks(self) -> Marks:
        """As they stand around no words at all."""
        empty, word = self.tokenizer(["", "x"], context_length=8).tolist()
        start = next(place for place, tokens in enumerate(zip(empty, word, strict=True)) if len(set(tokens)) > 1)
        return Marks(tuple(empty[:start]), empty[start], empty[-1])

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
        return self._encoded(self.model.encode_image, images)

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
    network = _build(model, quick_gelu or openai_format, find_view(model, weights))
    fit_weights(network, state, model, path)
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


def _build(name: str, quick_gelu: bool, view: dict[str, Any] | None) -> torch.nn.Module:
    """The architecture, whose weights are loaded next; until then open_clip warns that they are random."""
    logging.disable(logging.WARNING)
    try:
        with _Undrawn():
            return open_clip.create_model(name, force_quick_gelu=quick_gelu, pretrained_text=False,
                                          force_preprocess_cfg=view)
    except (ImportError, RuntimeError, OSError) as error:
        repository = open_clip.get_model_config(name)["text_cfg"].get("hf_model_name")
        remedy = f" It needs config.json of {repository}: {TRANSFORMERS.format(repository=repository)}"
        raise UserError(f"open_clip cannot build {name!r} here: {error}{remedy if repository else ''}") from error
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


def _position_features(visual, images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, M, d)."""
    if isinstance(visual, TimmModel):
        maps = visual.trunk.forward_features(images)  # (B, c, h, w)
        if maps.ndim != 4:
            raise UserError(NO_POSITIONS)
        positions = maps.flatten(2).transpose(1, 2)  # (B, M, c)
        pooled = visual.trunk.forward_head(positions.flatten(0, 1)[..., None, None])  # (B*M, c)
        return visual.head(pooled).unflatten(0, positions.shape[:2])
    if isinstance(visual, open_clip.modified_resnet.ModifiedResNet):
        images = visual.layer2(visual.layer1(visual.stem(images)))
        return _attention_pool_all(visual.attnpool, visual.layer4(visual.layer3(images)))
    if visual.attn_pool is not None:
        raise UserError(NO_POSITIONS)
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
