"""One client's personal model, as it leaves a federation: for use without the rest, from a file of some hundred kB."""

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from pfedmoap import clip as clips
from pfedmoap import gating
from pfedmoap.data import CIFAR, read_image, to_rgb
from pfedmoap.errors import UserError
from pfedmoap.experiments import exporting
from pfedmoap.experiments.experiment import build_method
from pfedmoap.experiments.preparation import Prepared
from pfedmoap.experiments.processor import too_slow
from pfedmoap.experiments.tensor_files import read_tensors, write_tensors
from pfedmoap.methods import Context, Method
from pfedmoap.prompts import PromptEncoder, TextFeatures
from pfedmoap.server import Tensors
from pfedmoap.system import is_plain, write_atomically

MODEL, LENT = "model/", "lent/"  # how the two kinds of tensors are told apart in the file
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What a personal model says about one image, the most probable class first.

    Attributes:
        classes: the k most probable class names.
        probabilities: theirs, of all classes' total 1.
        experts: "own prompt", "expert 1", ... as the gate weighs them, nearest first; empty without a gate.
        gate_weights: (k, experts) how much of each class's text features comes from which expert: the attention's
            mean over heads; every row sums to 1.
    """

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    experts: tuple[str, ...]
    gate_weights: np.ndarray

    def frame(self) -> pd.DataFrame:
        """One row per class: its probability, and the gate's weight of every expert."""
        weights = pd.DataFrame(self.gate_weights, columns=list(self.experts), index=range(len(self.classes)))
        table = pd.DataFrame({"class": self.classes, "probability": self.probabilities})
        return pd.concat([table, weights], axis=1).set_index("class")


@dataclass(frozen=True, eq=False)
class Personalised:
    """A client's prompt and gate, the experts' prompts as they were lent to it, and the frozen CLIP they work with.

    Attributes:
        method: whose model it is.
        class_names: in label order.
        clip: the CLIP that the federation used.
        weights: where its weights can be had: pretrained tag, file name, or None for those shipped with the package.
        model: what the client is tested with: its prompt, its gate.
        lent: what it had downloaded: the global prompt, the experts (K, m, e).
    """

    method: Method
    class_names: tuple[str, ...]
    clip: clips.Clip
    weights: str | None
    model: Tensors
    lent: Tensors

    @classmethod
    def of(cls, prepared: Prepared, client: int) -> "Personalised":
        """The model that a client would be tested with now.

        Raises:
            UserError: there is no such client, its method also needs the client's images when it is tested, or images
            were preprocessed as in the released code.
        """
        federation, method = prepared.federation, prepared.experiment.method
        if not 0 <= client < federation.data.clients:
            raise UserError(f"There is no client {client}: choose one from 0 to {federation.data.clients - 1}.")
        if method.remembers_images:
            raise UserError(f"{method.title} looks at the client's own images when it is tested, so that its model "
                            f"cannot leave the client alone: choose another method.")
        if prepared.experiment.protocol.cifar_preprocess == "cifar" and prepared.imageset.name in CIFAR:
            raise UserError("This model has learned from images that were normalised by CIFAR's mean and standard "
                            "deviation, which predictions are not: leave out the protocol switch cifar_preprocess.")
        lent = method.download(federation.server, client)
        model = method.tested(lent, federation.personal[client], client, federation.context)
        weights = prepared.experiment.weights
        if weights and Path(weights).is_file():
            weights = Path(weights).name
        return cls(method, prepared.imageset.class_names, prepared.clip, weights, model, lent)

    @torch.no_grad()
    def predict(self, image: Image.Image | str | Path, top: int = 5) -> Prediction:
        """Classifies one image.

        Args:
            image: a PIL image, or the path of an image file, which is turned upright as its EXIF data say.
            top: how many classes to return.

        Raises:
            UserError: the file cannot be read as an image.
        """
        image = to_rgb(image) if isinstance(image, Image.Image) else read_image(image, upright=True)
        probabilities, weights = self.answers(self.encode(self.clip.preprocess(image)[None]))  # (1, C), (1, C, 1+K)
        values, labels = probabilities[0].topk(min(top, len(self.class_names)))
        weights = weights[0, labels].cpu().numpy()  # (k, 1+K)
        experts = ("own prompt", *(f"expert {number}" for number in range(1, weights.shape[1])))[: weights.shape[1]]
        names = tuple(self.class_names[label] for label in labels.tolist())
        return Prediction(names, tuple(values.tolist()), experts, weights)

    @property
    def encode(self) -> Callable[[Tensor], Tensor]:
        """Preprocessed images (B, 3, H, W) -> the features that the method looks at: (B, d) or (B, M, d)."""
        return self.clip.encode_spatial if self.method.spatial else self.clip.encode_images

    def answers(self, features: Tensor, context: Context | None = None) -> tuple[Tensor, Tensor]:
        """What the model says about several images.

        Args:
            features: (B, d), or (B, M, d) for methods that see every image position; normalised.
            context: in place of its own, such as one that has the text features already.

        Returns:
            The probabilities of all classes (B, C), and the weights of the attention gate, mean over heads (B, C, 1+K);
            (B, C, 0) where there is no such gate.
        """
        context = context or self.context
        logits = self.method.logits(self._model, self.fixed, features[None], context)[0]  # (B, C)
        return logits.softmax(-1), self._gate_weights(features, context)

    def save(self, path: str | Path) -> None:
        """Writes a safetensors file whose metadata (JSON) say what the tensors are; CLIP itself is not in it.

        Raises:
            UserError: the file cannot be written.
        """
        tensors = {f"{MODEL}{name}": tensor for name, tensor in self.model.items()}
        tensors |= {f"{LENT}{name}": tensor for name, tensor in self.lent.items()}
        description = {
            "method": {"name": self.method.name} | dataclasses.asdict(self.method),
            "class_names": self.class_names,
            "clip": {"model": self.clip.name, "weights": self.weights, "fingerprint": self.clip.fingerprint,
                     "precision": next(name for name, kind in clips.DTYPES.items() if kind == self.clip.dtype)},
        }  # fmt: skip
        write_tensors(Path(path), tensors, "pfedmoap", description)

    @classmethod
    def load(cls, path: str | Path, clip: clips.Clip | None = None, *, device: str = "cpu") -> "Personalised":
        """Reads what `save` wrote; nothing in the file is executed.

        Args:
            clip: the CLIP it was trained with; None: loaded by name, in fp32 where its precision is far too slow.
            device: where that is loaded.

        Raises:
            UserError: the file is missing or no personal model, or the CLIP is not the one it was trained with.
        """
        tensors, description = _read(Path(path))
        wanted = description["clip"]
        why_not = too_slow(wanted["precision"], device) if clip is None else None
        if clip is None:
            clip = clips.load_clip(wanted["model"], wanted["weights"], device=device, precision=wanted["precision"])
        if clip.fingerprint != wanted["fingerprint"]:
            raise UserError(f"{path} was trained with another CLIP ({wanted['model']}, weights {wanted['weights']}, "
                            f"fingerprint {wanted['fingerprint'][:12]}) than {clip.name} with {clip.weights}, "
                            f"fingerprint {clip.fingerprint[:12]}: load that one and hand it over with clip=...")
        if why_not:
            _log.warning("%s: CLIP is computed in fp32", why_not)
            clip = clips.load_clip(wanted["model"], wanted["weights"], device=device)
        model, lent = ({name.removeprefix(kind): tensor for name, tensor in tensors.items() if name.startswith(kind)}
                       for kind in (MODEL, LENT))
        try:
            settings = dict(description["method"])
            method = build_method(settings.pop("name"), **settings)
            personal = cls(method, tuple(description["class_names"]), clip, wanted["weights"], model, lent)
            personal.answers(torch.zeros(1, *([clip.positions] * method.spatial), clip.embed_dim).to(clip.device))
        except _MISFITS as error:  # tensors and settings of another method, or of other shapes
            raise _no_model(path, error) from error
        return personal

    def export_onnx(self, path: str | Path, image_tower: bool = False) -> None:
        """Writes an ONNX file that runs without this package and PyTorch, such as with onnxruntime.

        Its input is `features` (B, d), normalised, or (B, M, d) for methods that see every image position; with
        `image_tower` it is `pixels` (B, 3, H, W), preprocessed. It returns `probabilities` (B, C) and, with an
        attention gate, `gate_weights` (B, C, 1+K), the mean over heads. B is free. Its metadata say how images are
        preprocessed (`exporting.metadata`). Text features are constants, so that a file is small: 15 kB for a prompt of
        ten classes, 0.4 MB with an attention gate, 1 MB for FedOTP, and 15 MB more with the embedded image tower.

        Raises:
            UserError: the extra `onnx` is not installed, the file cannot be written, or CLIP computes in bf16.
        """
        write_atomically(Path(path), exporting.as_onnx(self, image_tower))

    @cached_property
    def context(self) -> Context:
        """The frozen CLIP's side."""
        encoder = PromptEncoder(self.clip, self.class_names)
        start = torch.zeros(1, self.clip.token_width)  # whoever has a personal model needs no start
        return Context(TextFeatures(encoder), encoder.handwritten(), self.clip.logit_scale, start, seed=0)

    @cached_property
    def _model(self) -> Tensors:
        """The model as a cohort of one, on the CLIP's device."""
        return {name: tensor[None].to(self.clip.device).float() for name, tensor in self.model.items()}

    @cached_property
    def fixed(self) -> Tensors:
        """What the method encodes once, such as the experts' text features."""
        return self.method.fixed(self._model, [self.lent], self.context)

    def _gate_weights(self, features: Tensor, context: Context) -> Tensor:
        if "experts" not in self.fixed or self.method.gate != "attention":
            return torch.zeros(features.shape[0], len(self.class_names), 0)
        text = context.text(self._model["prompt"])  # (1, C, d)
        _, weights = gating.attend(self._model, **self.method.gate_inputs(self.fixed, features[None], text))
        return weights[0].mean(2)  # from (B, C, heads, 1+K)


_MISFITS = (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError)


def _read(path: Path) -> tuple[Tensors, dict]:
    try:
        tensors, description, _ = read_tensors(path, "pfedmoap")
    except FileNotFoundError:
        raise UserError(f"{path} is not there: write it with Personalised.save, or correct the path.") from None
    except ValueError as error:
        raise _no_model(path, error) from error
    try:
        names, method, made_with = (description[name] for name in ("class_names", "method", "clip"))
        texts = [*names, method["name"], made_with["model"], made_with["fingerprint"], made_with["weights"] or ""]
        sound = (isinstance(names, list) and bool(names) and isinstance(method, dict)
                 and all(isinstance(text, str) and is_plain(text) for text in texts)
                 and made_with["precision"] in clips.DTYPES and all(map(torch.is_floating_point, tensors.values())))
    except _MISFITS as error:
        raise _no_model(path, error) from error
    if not sound:
        raise _no_model(path, "it is incomplete, or holds what no model has")
    return tensors, description


def _no_model(path: str | Path, why: object) -> UserError:
    return UserError(f"{path} is no personal model ({' '.join(str(why).split())[:200]}): write one with "
                     f"Personalised.save.")
