"""Shadow clients: what the adversary trains to learn how a prompt that has seen an image differs from one that has not.

What sets them apart from the client, beside the half of the images: their gates are fresh, while the client's has been
trained in the rounds before, so that with pFedMoAP they pass through other gradients than it did. Where images are
augmented (the real photographs of profile "paper"), they train on the very views that the client trained on, which an
adversary cannot know: the attacks are then stronger than an adversary's. And where a class has fewer left-over images
than the client has of it, a shadow has fewer of it than the client, hence fewer or smaller batches: weaker attacks.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pfedmoap.client import Recipe, draw_batches, local_update
from pfedmoap.evaluation import chunks, stack
from pfedmoap.methods import Context, Method
from pfedmoap.privacy import add_noise
from pfedmoap.server import Tensors

ADVERSARY = 1_000_003  # added to the run's seed: the adversary draws its own batches, gates and noise


def train_shadows(
    method: Method,
    recipe: Recipe,
    context: Context,
    download: Tensors,
    shards: Sequence[np.ndarray],
    features: Tensor,
    labels: Tensor,
    *,
    number: int,
    past_epochs: int,
    seed: int,
    ids: Sequence[int],
    sigma: float | None = None,
    cohort: int = 32,
) -> Tensor:
    """Trains shadow clients from what one client was sent, as that client trains, and returns what they would upload.

    Gates are fresh, as the client's own never leaves it. With the client's own images, seed and id, and as long as
    its gate has not been trained, the result is the client's own upload.

    Args:
        download: what the server sent to the client for the round.
        shards: for every shadow the rows of `features` that it has; all of one length.
        features: (V, n, d) training features; labels: (n,).
        number: the round.
        past_epochs: local epochs that the client has behind it.
        seed, ids: what batches, gates and noise of the shadows are drawn from.
        sigma: standard deviation of the noise on an upload; None: no noise.
        cohort: shadows that are trained at once.

    Returns:
        Prompts, (shadows, m, e), on the CPU.
    """
    starts = {shadow: method.start(download, {}, shadow, context) for shadow in ids}
    of = dict(zip(ids, shards, strict=True))
    prompts = []
    for group in chunks([list(ids)], cohort):
        start = stack([starts[shadow] for shadow in group], labels.device)
        fixed = method.fixed(start, [download] * len(group), context)
        batches = draw_batches(group, [of[shadow] for shadow in group], recipe, seed=seed, round=number,
                               past_epochs=[past_epochs] * len(group), views=len(features))
        trained = local_update(method, start, fixed, batches, features, labels, recipe, context)
        uploads = method.upload(trained.tensors)["prompt"].cpu()  # (cohort, m, e)
        for shadow, prompt in zip(group, uploads, strict=True):
            noisy = add_noise({"prompt": prompt}, sigma, seed, number, shadow) if sigma else {"prompt": prompt}
            prompts.append(noisy["prompt"])
    return torch.stack(prompts)
