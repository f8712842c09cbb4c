"""A personal model as an ONNX file: it runs without this package, without PyTorch and without CLIP's text tower."""

import dataclasses
import importlib.util
import io
import json
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pfedmoap.errors import UserError

if TYPE_CHECKING:
    from pfedmoap.experiments.personal import Personalised

LIBRARIES = ("onnx", "onnxscript")
TRACED = 3  # images of the example that is traced; the file takes any number


class Graph(nn.Module):
    """What an exported file computes.

    The prompts' text features do not depend on the image. They are computed before the graph is traced, and stand in it
    as constants, in the order in which the model asks for them.

    Args:
        personal: the model.
        image_tower: whether its input are preprocessed pixels (B, 3, H, W) in place of features.
        example: of the input; answering it collects the text features.
    """

    def __init__(self, personal: "Personalised", image_tower: bool, example: Tensor):
        super().__init__()
        self.personal = personal
        self.tower = personal.clip.model.visual if image_tower else None  # weights of a module keep their names
        self.known: list[Tensor] = []

        def collect(prompts: Tensor) -> Tensor:
            self.known.append(personal.context.text(prompts))
            return self.known[-1]

        self._answers(example, collect)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, ...) -> probabilities (B, C) and, with an attention gate, its weights (B, C, 1+K)."""
        known = iter(self.known)
        return self._answers(images, lambda _: next(known))

    def _answers(self, images: Tensor, text) -> tuple[Tensor, ...]:
        features = images if self.tower is None else self.personal.encode(images)
        context = dataclasses.replace(self.personal.context, text=text)
        probabilities, weights = self.personal.answers(features, context)
        return (probabilities, weights) if weights.shape[-1] else (probabilities,)


def metadata(personal: "Personalised") -> dict[str, str]:
    """What stands in the file beside the graph: text, or JSON where it is a list or number.

    An image is resized (`resize_mode`, `interpolation`) and cropped in the centre to `image_size` (height, width),
    taken as RGB from 0 to 1, minus `mean`, over `std`, all of three channels. `logit_scale` is 1 / temperature.
    """
    clip, preprocessing = personal.clip, dataclasses.asdict(personal.clip.preprocessing)
    wanted = {"class_names": personal.class_names, "method": personal.method.title, "clip": clip.name,
              "clip_weights": personal.weights or clip.weights, "clip_fingerprint": clip.fingerprint,
              "logit_scale": clip.logit_scale, "image_size": preprocessing["size"]}
    wanted |= {name: preprocessing[name] for name in ("mean", "std", "interpolation", "resize_mode")}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in wanted.items()}


@torch.no_grad()
def as_onnx(personal: "Personalised", image_tower: bool = False) -> bytes:
    """The content of an ONNX file; see `Personalised.export_onnx`.

    Raises:
        UserError: the extra `onnx` is not installed, or the image tower computes in bf16.
    """
    if any(importlib.util.find_spec(name) is None for name in LIBRARIES):
        raise UserError("Writing ONNX files needs an optional extra: install it with pip install 'pfedmoap[onnx]'")
    import onnx

    clip = personal.clip
    if image_tower and clip.dtype != torch.float32:
        raise UserError("An image tower in bf16 does not run everywhere: load the personal model with a CLIP in fp32, "
                        "or export it without its image tower")
    pixels = torch.zeros(TRACED, 3, *clip.preprocessing.size, device=clip.device)
    example = pixels if image_tower else personal.encode(pixels)
    graph = Graph(personal, image_tower, example).eval()
    names = ["probabilities", "gate_weights"][: len(graph(example))]
    program = torch.onnx.export(
        graph, (example,), dynamo=True, input_names=["pixels" if image_tower else "features"], output_names=names,
        dynamic_shapes=({0: torch.export.Dim("images", min=1)},), verbose=False)
    program.model.metadata_props.update(metadata(personal))
    file = io.BytesIO()
    onnx.save(program.model_proto, file)
    return file.getvalue()
