"""Which classes a client owns, told from the prompt that it uploads (property inference).

The adversary has the prompt, the frozen CLIP, the class names, and public images that nobody has trained on.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pfedmoap.methods import Context

UPLOAD, PREFERENCE, LOSS, LOSS_ALL = "preference, upload alone", "preference", "loss", "loss, all rounds"
OTHERS, OTHERS_ALL = "loss, against others", "loss, all rounds, against others"
SCORES = UPLOAD, PREFERENCE, LOSS, LOSS_ALL, OTHERS, OTHERS_ALL


@torch.no_grad()
def class_scores(
    starts: Tensor, uploads: Tensor, public: Tensor, labels: Tensor, context: Context
) -> dict[str, Tensor]:
    """A score per class, higher for "the client owns it".

    "preference": how much more probable the class has become between start and upload, whatever the image shows (a
    client has no images of other classes, so that its prompt may learn to see its own ones everywhere); from the
    upload alone: how probable it is. "loss": how far the loss fell on public images of the class, in the last round, or
    summed over all rounds that the client took part in.

    Args:
        starts, uploads: (T, m, e), what the client was sent and sent back in each of its rounds, the last one last.
        public: (p, d) features; labels: (p,).

    Returns:
        Name -> (C,), fp64; losses are 0 for classes without public images.
    """
    text = context.text(torch.stack([starts, uploads]).to(public.device))  # (2, T, C, d)
    log_p = (context.logit_scale * public @ text.transpose(2, 3)).log_softmax(-1)  # (2, T, p, C)
    preference = log_p.mean(2)  # (2, T, C)
    of_class = F.one_hot(labels, log_p.shape[-1]).to(log_p)  # (p, C)
    loss = -(log_p * of_class).sum(2) / of_class.sum(0)  # (2, T, C)
    liked, fell = preference[1] - preference[0], loss[0] - loss[1]  # (T, C)
    scores = {UPLOAD: preference[1, -1], PREFERENCE: liked[-1], LOSS: fell[-1], LOSS_ALL: fell.sum(0)}
    return {name: score.double().nan_to_num(0.0) for name, score in scores.items()}


def against_others(scores: Tensor) -> Tensor:
    """A score less its mean over the other clients, as some classes become easier under everybody's prompt.

    Args:
        scores: (clients, C); of one client alone it stays as it is.
    """
    count = len(scores)
    return scores - (scores.sum(0) - scores) / max(1, count - 1)
