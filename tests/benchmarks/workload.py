"""What the benchmarks measure: a cohort's training step at the paper's shapes, at random weights and random features.

Speed does not depend on the weights. Class names are the first C of Flowers102's.
"""

import logging
from functools import lru_cache

import numpy as np
import open_clip
import torch
import torch.nn.functional as F

from pfedmoap.client import Batches, Cohort, FederatedData, Recipe
from pfedmoap.clip import DTYPES, Clip
from pfedmoap.gating import initial_gate, pool
from pfedmoap.methods import Context, PFedMoAP
from pfedmoap.prompts import PromptEncoder, TextFeatures, initial_prompt

# The 102 flowers, as in the data set's own list.
FLOWERS = """pink primrose, hard-leaved pocket orchid, canterbury bells, sweet pea, english marigold, tiger lily, moon
orchid, bird of paradise, monkshood, globe thistle, snapdragon, colt's foot, king protea, spear thistle, yellow iris,
globe-flower, purple coneflower, peruvian lily, balloon flower, giant white arum lily, fire lily, pincushion flower,
fritillary, red ginger, grape hyacinth, corn poppy, prince of wales feathers, stemless gentian, artichoke, sweet
william, carnation, garden phlox, love in the mist, mexican aster, alpine sea holly, ruby-lipped cattleya, cape flower,
great masterwort, siam tulip, lenten rose, barbeton daisy, daffodil, sword lily, poinsettia, bolero deep blue,
wallflower, marigold, buttercup, oxeye daisy, common dandelion, petunia, wild pansy, primula, sunflower, pelargonium,
bishop of llandaff, gaura, geranium, orange dahlia, pink-yellow dahlia, cautleya spicata, japanese anemone, black-eyed
susan, silverbush, californian poppy, osteospermum, spring crocus, bearded iris, windflower, tree poppy, gazania,
azalea, water lily, rose, thorn apple, morning glory, passion flower, lotus, toad lily, anthurium, frangipani, clematis,
hibiscus, columbine, desert-rose, tree mallow, magnolia, cyclamen, watercress, canna lily, hippeastrum, bee balm, ball
moss, foxglove, bougainvillea, camellia, mallow, mexican petunia, bromelia, blanket flower, trumpet creeper, blackberry
lily"""
NAMES = [" ".join(name.split()) for name in FLOWERS.split(",")]
BATCH, CONTEXT_TOKENS, SEED = 16, 16, 1


@lru_cache
def random_clip(model: str, precision: str = "fp32", device: str = "cpu") -> Clip:
    """A CLIP of a known architecture at seeded random weights."""
    logging.disable(logging.WARNING)  # open_clip's, that the weights are random
    torch.manual_seed(SEED)
    network = open_clip.create_model(model, pretrained_text=False).eval().requires_grad_(False)
    logging.disable(logging.NOTSET)
    return Clip(model, "random", network.to(device, DTYPES[precision]), torch.device(device), DTYPES[precision])


def class_names(count: int) -> list[str]:
    """The first so many of the flowers; beyond 102 they come again."""
    return [NAMES[index % len(NAMES)] for index in range(count)]


def make_context(clip: Clip, classes: int) -> Context:
    encoder = PromptEncoder(clip, class_names(classes))
    prompt = initial_prompt(CONTEXT_TOKENS, clip.token_width, SEED)
    return Context(TextFeatures(encoder), encoder.handwritten(), 100.0, prompt, SEED)


def normalised(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


class Step:
    """One training step of a cohort of pFedMoAP clients with their gates, as `client.local_update` takes it.

    Args:
        clip: of the text tower.
        classes, clients, experts: C, clients that train together, K.
        images: (clients, B, d) image features; None: random ones.
    """

    def __init__(self, clip: Clip, classes: int, clients: int = 1, experts: int = 9, images=None):
        self.method, self.names = PFedMoAP(experts=experts), class_names(classes)
        self.context, own = make_context(clip, classes), [self._client(client, clip) for client in range(clients)]
        models, lent, labels, features = zip(*own, strict=True)
        self.start = {name: torch.stack([model[name] for model in models]) for name in models[0]}
        self.fixed = {"experts": torch.stack(lent), "present": torch.ones(clients, experts, dtype=torch.bool)}
        self.labels, self.images = torch.stack(labels), torch.stack(features) if images is None else images
        for own in (self.start, self.fixed):
            own |= {name: tensor.to(clip.device) for name, tensor in own.items()}
        self.labels, self.images = self.labels.to(clip.device), self.images.to(clip.device)

    def _client(self, client: int, clip: Clip) -> tuple[dict[str, torch.Tensor], torch.Tensor, ...]:
        """A client's start, experts (K, C, g), labels (B,) and image features (B, d), whatever the cohort."""
        torch.manual_seed(client)
        start = initial_gate(self.method.d_gating, SEED, client)
        start["prompt"] = initial_prompt(CONTEXT_TOKENS, clip.token_width, SEED + client)
        lent = pool(normalised(self.method.experts, len(self.names), clip.embed_dim), self.method.d_gating)
        return start, lent, torch.randint(len(self.names), (BATCH,)), normalised(BATCH, clip.embed_dim)

    def __call__(self) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Losses (clients,) and gradients, each (clients, ...)."""
        model = {name: tensor.clone().requires_grad_() for name, tensor in self.start.items()}
        present = torch.ones_like(self.labels, dtype=torch.bool)
        losses = self.method.loss(model, self.fixed, self.images, self.labels, present, self.context)
        gradients = torch.autograd.grad(losses.sum(), list(model.values()))
        return losses.detach(), dict(zip(model, gradients, strict=True))


class Update:
    """A local update of so many steps of the same clients as `Step`'s, as a federation has it made."""

    def __init__(self, clip: Clip, classes: int, clients: int = 1, steps: int = 1):
        one = Step(clip, classes, clients)
        images = torch.arange(clients * BATCH).view(clients, 1, BATCH).repeat(1, steps, 1)  # (clients, steps, B)
        batches = Batches(images, torch.zeros(clients, steps, dtype=torch.int64), torch.ones(clients, steps),
                          torch.ones(clients, BATCH, dtype=torch.bool), (steps,) * clients)
        recipe = Recipe(epochs=1, batch_size=BATCH, lr=0.002, momentum=0.9, weight_decay=5e-4)
        self.cohort = Cohort(tuple(range(clients)), one.method, one.start, one.fixed, batches,
                             one.images.flatten(0, 1)[None], one.labels.flatten(), recipe, one.context)

    def __call__(self) -> torch.Tensor:
        """Losses (clients,)."""
        return self.cohort.train().losses


def random_federation(
    clip: Clip, classes: int, clients: int, shots: int, tests: int = 10, seed: int = SEED
) -> FederatedData:
    """Random features, dealt as in the paper's few-shot runs: every client owns its share of the classes."""
    generator = torch.Generator().manual_seed(seed)

    def draw(per_class: int) -> tuple[torch.Tensor, torch.Tensor, list[np.ndarray]]:
        labels = torch.arange(classes).repeat_interleave(per_class)  # (n,)
        features = F.normalize(torch.randn(len(labels), clip.embed_dim, generator=generator), dim=-1)
        rows = [(labels % clients == client).nonzero().flatten().numpy() for client in range(clients)]
        return features, labels, rows

    train, train_labels, train_rows = draw(shots)
    test, test_labels, test_rows = draw(tests)
    on_device = [tensor.to(clip.device) for tensor in (train[None], train_labels, test, test_labels)]
    return FederatedData(*on_device, train_rows, test_rows)
