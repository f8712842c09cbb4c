"""Membership inference on an uploaded prompt: a score per image, higher for "the client has trained on it".

The adversary has the upload, the prompt that the client started from, the frozen CLIP and the candidates' features and
labels. It has no gate, so that it looks at images through the prompt alone (equation 3).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pfedmoap.methods import Context

LOSS, CALIBRATED, CALIBRATED_ALL = "loss", "calibrated loss", "calibrated loss, all rounds"
OTHERS, LIRA, DIRECTION = "loss against others", "likelihood ratio", "prompt direction"
ATTACKS = LOSS, CALIBRATED, CALIBRATED_ALL, OTHERS, LIRA, DIRECTION


@torch.no_grad()
def confidence(prompts: Tensor, features: Tensor, labels: Tensor, context: Context) -> Tensor:
    """log(p / (1 - p)) of each image's label under each prompt, from the logits, without rounding p to 1.

    Args:
        prompts: (P, m, e); features: (n, d), normalised; labels: (n,).

    Returns:
        (P, n).
    """
    logits = context.logit_scale * features @ context.text(prompts.to(features.device)).transpose(1, 2)  # (P, n, C)
    at = labels.expand(len(prompts), -1)[..., None]  # (P, n, 1)
    others = logits.scatter(2, at, float("-inf")).logsumexp(2)  # (P, n)
    return logits.gather(2, at)[..., 0] - others


def loss_threshold(upload: Tensor) -> Tensor:
    """Minus the cross-entropy under the upload (Yeom et al. 2018): `confidence` (n,) -> (n,)."""
    return F.logsigmoid(upload)


def calibrated_loss(upload: Tensor, start: Tensor) -> Tensor:
    """How far the loss fell from the start to the upload, so that easy images do not pass for members.

    Watson et al. (2021), with the prompt that the client started from as the reference.

    Args:
        upload, start: `confidence`, (..., n).
    """
    return F.logsigmoid(upload) - F.logsigmoid(start)


def loss_against_others(upload: Tensor, others: Tensor) -> Tensor:
    """How much smaller the loss is than under the other clients' uploads, none of which has seen the image: (n,).

    The calibration of Watson et al. (2021) again, with references that a federation gives away for nothing.

    Args:
        upload: `confidence`, (n,); others: (clients, n), empty where there are none.
    """
    return F.logsigmoid(upload) - (F.logsigmoid(others).mean(0) if len(others) else 0)


def likelihood_ratio(upload: Tensor, shadows: Tensor, inside: Tensor) -> Tensor:
    """How much likelier the confidence is if the image was trained on (Carlini et al. 2022): (n,).

    Two Gaussians per image, fitted to the shadows that had it and to those that had not. Their means are the image's
    own; their variances are shared by all images, as Carlini et al. advise for few shadows.

    Args:
        upload: `confidence`, (n,); shadows: (S, n); inside: (S, n) bool, which shadows have trained on which image.
    """
    means, variances = zip(*(_fit(shadows, chosen) for chosen in (inside, ~inside)), strict=True)
    with_it, without = (-(upload - mean) ** 2 / (2 * variance) - variance.log() / 2
                        for mean, variance in zip(means, variances, strict=True))
    return with_it - without


def prompt_direction(upload: Tensor, shadows: Tensor, inside: Tensor) -> Tensor:
    """How far the prompt itself lies from the shadows without an image towards those with it: (n,).

    The likelihood ratio of two Gaussians with equal and isotropic covariance in the space of prompts, which is what the
    noise of differential privacy makes of them (compare Leemann et al. 2023 on gradients).

    Args:
        upload: prompt (m, e); shadows: (S, m, e); inside: (S, n) bool.
    """
    shadows = shadows.flatten(1).double()  # (S, m*e)
    chosen = inside.double().T  # (n, S)
    with_it = chosen @ shadows / chosen.sum(1, keepdim=True)  # (n, m*e)
    without = (1 - chosen) @ shadows / (1 - chosen).sum(1, keepdim=True)
    towards = F.normalize(with_it - without, dim=1)
    return ((upload.flatten().double() - (with_it + without) / 2) * towards).sum(1)


def _fit(shadows: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Every image's mean over the chosen shadows, (n,), and the variance around these means, a scalar."""
    count = chosen.sum(0)  # (n,)
    mean = torch.where(chosen, shadows, 0).sum(0) / count
    squares = torch.where(chosen, (shadows - mean) ** 2, 0).sum()
    return mean, (squares / (count - 1).clamp_min(0).sum().clamp_min(1)).clamp_min(1e-12)
