"""The numbers behind the teaching notebook, on finished federations: prompts, averages, the pool, what travels."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from pfedmoap.clip import Clip
from pfedmoap.experiments import Prepared
from pfedmoap.prompts import PlainTower, PromptEncoder, suffixes
from pfedmoap.server import Pool, weighted_average

# --- a prompt and its text features


def sentence(clip: Clip, name: str, context_tokens: int) -> pd.DataFrame:
    """What CLIP's text tower reads for one class: a row per token, with the origin of its vector."""
    tokens = clip.tokenizer([_placeholders(context_tokens, name)])[0].tolist()
    tokens = tokens[: tokens.index(clip.tokenizer.eot_token_id) + 1]
    learned = range(1, 1 + context_tokens)
    read = [f"p_{place}" if place in learned else clip.tokenizer.decode([token]).strip()
            for place, token in enumerate(tokens)]
    origin = ["learned" if place in learned else "CLIP's table" for place in range(len(tokens))]
    return pd.DataFrame({"token": read, "vector": origin}).rename_axis("position")


@torch.no_grad()
def text_features(prepared: Prepared, prompt: Tensor) -> Tensor:
    """t_c(p) of one prompt: (m, e) -> (C, d)."""
    return prepared.federation.context.text(prompt[None].to(prepared.clip.device))[0]


def encode_in_full(clip: Clip, class_names: Sequence[str], prompt: Tensor) -> Tensor:
    """A prompt's text features by open_clip's own `encode_text`: every class at the full context length.

    A sentence of placeholders goes in, and their embeddings are replaced by the prompt on the way.

    Args:
        prompt: (m, e).

    Returns:
        (C, d), normalised, differentiable with respect to the prompt.
    """
    return F.normalize(PlainTower(clip, suffixes(clip, class_names))(prompt[None])[0], dim=-1)


def compare_encoders(clip: Clip, class_names: Sequence[str], prompt: Tensor) -> pd.DataFrame:
    """The shared-prefix encoder beside open_clip's full-length one, forward and backward.

    Args:
        prompt: (m, e).

    Returns:
        One row per encoder: tokens that it processes, seconds, and the largest difference of any feature and of any
        entry of the gradient with respect to the prompt (relative to the gradient's largest entry).
    """
    encoder, prompt = PromptEncoder(clip, class_names), prompt.to(clip.device)
    encoders: dict[str, Callable[[Tensor], Tensor]] = {
        "open_clip, every class in full": lambda prompt: encode_in_full(clip, class_names, prompt),
        "shared prefix": lambda prompt: encoder(prompt[None])[0],
    }
    weights = torch.randn(len(class_names), clip.embed_dim, generator=torch.manual_seed(0)).to(prompt.device)
    full = _full_tokens(clip, class_names, len(prompt))
    suffixes = int((full != 0).sum()) - len(class_names) * (1 + len(prompt))
    tokens = (full.numel(), 1 + len(prompt) + suffixes)
    rows, reference = [], None
    for (title, encode), count in zip(encoders.items(), tokens, strict=True):
        encode(prompt)  # the first call of anything is slower
        began = time.perf_counter()
        leaf = prompt.clone().requires_grad_()
        features = encode(leaf)  # (C, d)
        (gradient,) = torch.autograd.grad((features * weights).sum(), leaf)  # (m, e)
        seconds = time.perf_counter() - began
        features = features.detach()
        reference = reference or (features, gradient)
        rows.append({"encoder": title, "tokens": count, "seconds": seconds,
                     "features differ by": float((features - reference[0]).abs().max()),
                     "gradients differ by": float((gradient - reference[1]).abs().max() / reference[1].abs().max())})
    return pd.DataFrame(rows).set_index("encoder")


def _full_tokens(clip: Clip, class_names: Sequence[str], context_tokens: int) -> Tensor:
    """(C, context_length), padded with zeros behind EOT."""
    return clip.tokenizer([_placeholders(context_tokens, name) for name in class_names],
                          context_length=clip.model.context_length)


def _placeholders(context_tokens: int, name: str) -> str:
    return " ".join(["x"] * context_tokens) + f" {name}."


# --- prompts that were learned alone, and their average


def own_prompts(prepared: Prepared) -> Tensor:
    """The prompt that every client keeps after a run in which all have trained: (clients, m, e)."""
    personal = prepared.federation.personal
    return torch.stack([personal[client]["prompt"] for client in sorted(personal)])


def average(prepared: Prepared, prompts: Tensor) -> Tensor:
    """What the server would make of one prompt per client, (clients, m, e) -> (m, e): FedAvg by n_i (equation 6)."""
    sizes = dict(enumerate(map(len, prepared.federation.data.train_rows)))
    return weighted_average(dict(enumerate(prompts)), sizes)


def update_cosines(prompts: Tensor, start: Tensor) -> Tensor:
    """Cosines between the directions in which the clients have moved: (clients, m, e), (m, e) -> (clients, clients)."""
    moved = F.normalize((prompts - start).flatten(1), dim=1)
    return moved @ moved.T


@torch.no_grad()
def evaluate_prompts(prepared: Prepared, prompts: Tensor) -> pd.DataFrame:
    """Every client's private test set under a prompt alone, prompt i for client i.

    Args:
        prompts: (clients, m, e).

    Returns:
        One row per client: cross-entropy loss, and accuracy in percent.
    """
    federation, rows = prepared.federation, []
    for client, text in enumerate(federation.context.text(prompts.to(prepared.clip.device))):
        images, labels = own_tests(prepared, client)
        logits = federation.context.logit_scale * images @ text.T  # (B, C)
        accuracy = 100 * (logits.argmax(1) == labels).double().mean()
        rows.append({"client": client, "loss": F.cross_entropy(logits, labels).item(), "accuracy": accuracy.item()})
    return pd.DataFrame(rows).set_index("client")


def along_the_line(prepared: Prepared, prompts: Tensor, middle: Tensor, points: int = 11) -> pd.DataFrame:
    """Every client tested on the way from the average to its own prompt.

    Args:
        prompts: (clients, m, e); middle: (m, e).
        points: how many stops.

    Returns:
        `evaluate_prompts` at every stop, with the column "share": 0 at the average, 1 at the client's own prompt.
    """
    stops = [evaluate_prompts(prepared, torch.lerp(middle, prompts, share)).assign(share=share).reset_index()
             for share in np.linspace(0, 1, points).tolist()]
    return pd.concat(stops, ignore_index=True)


# --- the pool


def pool_distances(pool: Pool) -> tuple[list[int], np.ndarray]:
    """The clients in the pool, and the l2 distances between their prompts: (n,), (n, n)."""
    clients = list(pool.entries)
    return clients, np.stack([pool.distances(client)[1].numpy() for client in clients])


def flatten_to_plane(distances: np.ndarray) -> tuple[np.ndarray, float]:
    """Classical multidimensional scaling: points in the plane whose distances are near to the given ones.

    Args:
        distances: (n, n), symmetric.

    Returns:
        (n, 2), centred, and the share of the points' squared distances that two dimensions keep (1: all).
    """
    n = len(distances)
    centring = np.eye(n) - 1 / n
    products = -0.5 * centring @ np.square(distances.astype(np.float64)) @ centring  # (n, n) inner products
    values, vectors = np.linalg.eigh(products)
    values, vectors = values[::-1].clip(0), vectors[:, ::-1]
    points = np.zeros((n, 2))
    points[:, : min(n, 2)] = (vectors * np.sqrt(values))[:, :2]
    return points, float(values[:2].sum() / values.sum()) if values.sum() else 1.0


def lending(pool: Pool, count: int) -> list[tuple[int, int]]:
    """Who lends to whom when everyone borrows its `count` nearest: (lender, borrower) pairs (section 3.2)."""
    return [(lender, borrower) for borrower in pool.entries for lender in pool.nearest(borrower, count)]


# --- a client's own images


def own_tests(prepared: Prepared, client: int) -> tuple[Tensor, Tensor]:
    """A client's test features (B, d) and labels (B,)."""
    data = prepared.federation.data
    rows = torch.from_numpy(data.test_rows[client]).to(data.test_labels.device)
    return data.test_features[rows], data.test_labels[rows]


def one_per_class(prepared: Prepared, client: int, count: int) -> list[int]:
    """Places, within a client's test set, of the first image of each of its first `count` classes."""
    labels = own_tests(prepared, client)[1].cpu().numpy()
    return np.sort(np.unique(labels, return_index=True)[1])[:count].tolist()


# --- what travels


def traffic(prepared: Prepared, client: int) -> pd.DataFrame:
    """What a client receives and sends in a round, and what never leaves it: bytes, by kind.

    Images count as they enter CLIP, a byte per colour of a pixel.
    """
    federation, method, clip = prepared.federation, prepared.experiment.method, prepared.clip
    received, kept = method.download(federation.server, client), federation.personal[client]
    sent = method.upload(kept)
    gate = [tensor for name, tensor in kept.items() if name not in sent]
    weights = sum(tensor.nbytes for tensor in clip.model.state_dict().values())
    images = len(federation.data.train_rows[client]) * 3 * clip.image_size**2
    experts = received.pop("experts", [])
    rows = [
        ("averaged prompt", "received", sum(tensor.nbytes for tensor in received.values())),
        (f"{len(experts)} experts' prompts", "received", sum(tensor.nbytes for tensor in experts)),
        ("own prompt", "sent", sum(tensor.nbytes for tensor in sent.values())),
        ("gate", "stays", sum(tensor.nbytes for tensor in gate)),
        ("own training images", "stays", images),
        ("frozen CLIP", "stays", weights),
    ]
    return pd.DataFrame(rows, columns=["what", "where", "bytes"]).set_index("what")
