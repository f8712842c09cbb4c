"""One training step of pFedMoAP at RN50 / Flowers102 shape: this package against a plain 77-token encoder.

Both sides compute the same loss and gradients with the same frozen weights (random: speed does not depend on them):
one client, 102 classes, batch 16, 16 context tokens, 9 non-local experts, fp32. The plain side encodes every class at
full length by open_clip's own text tower. Prints median seconds, the ratio, the differences, and peak memory.

    python tests/benchmarks/training_step.py [--threads 2] [--repeats 3]
"""

import argparse
import logging
import multiprocessing
import resource
import statistics
import time

import open_clip
import torch
import torch.nn.functional as F

from pfedmoap.clip import Clip
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
METHOD = PFedMoAP()
BATCH, EXPERTS = 16, METHOD.experts


class PlainEncoder:
    """Every class at full length through open_clip's own text tower."""

    def __init__(self, clip: Clip, context_tokens: int):
        self.clip = clip
        text = " ".join(["x"] * context_tokens)
        self.tokens = clip.tokenizer([f"{text} {name}." for name in NAMES])  # (C, 77)
        self.embedded = clip.model.token_embedding(self.tokens)  # (C, 77, e)

    def __call__(self, prompts: torch.Tensor) -> torch.Tensor:
        model, features = self.clip.model, []
        for prompt in prompts:
            context = prompt.expand(len(NAMES), -1, -1)
            x = torch.cat([self.embedded[:, :1], context, self.embedded[:, 1 + len(prompt) :]], dim=1)
            x = model.transformer(x + model.positional_embedding, attn_mask=model.attn_mask)
            x = model.ln_final(x)[torch.arange(len(NAMES)), self.tokens.argmax(-1)] @ model.text_projection
            features.append(F.normalize(x, dim=-1))
        return torch.stack(features)


def step(context: Context, start: dict, fixed: dict, images: torch.Tensor, labels: torch.Tensor):
    """Loss and gradients of one step, and the seconds that they took."""
    began = time.perf_counter()
    model = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
    loss = METHOD.loss(model, fixed, images, labels, torch.ones_like(labels, dtype=torch.bool), context)
    gradients = torch.autograd.grad(loss.sum(), list(model.values()))
    return loss.item(), dict(zip(model, gradients, strict=True)), time.perf_counter() - began


def measure(side: str, threads: int, repeats: int, results) -> None:
    """One side in a process of its own, so that its peak memory is its own."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    logging.disable(logging.WARNING)  # open_clip's, that the weights are random
    model = open_clip.create_model("RN50-quickgelu", pretrained_text=False).eval().requires_grad_(False)
    clip = Clip("RN50-quickgelu", "random", model, torch.device("cpu"), torch.float32)
    encoder = PromptEncoder(clip, NAMES) if side == "ours" else PlainEncoder(clip, 16)
    text = TextFeatures(encoder) if side == "ours" else encoder
    context = Context(text, torch.zeros(len(NAMES), clip.embed_dim), 100.0, initial_prompt(16, 512, 1), 1)
    start = {name: tensor[None] for name, tensor in initial_gate(METHOD.d_gating, 1, 0).items()}
    start["prompt"] = context.initial_prompt[None]
    experts = F.normalize(torch.randn(1, EXPERTS, len(NAMES), clip.embed_dim), dim=-1)
    fixed = {"experts": pool(experts, METHOD.d_gating), "present": torch.ones(1, EXPERTS, dtype=torch.bool)}
    images = F.normalize(torch.randn(1, BATCH, clip.embed_dim), dim=-1)
    labels = torch.randint(len(NAMES), (1, BATCH))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(repeats + 1):  # the first warms up
        loss, gradients, took = step(context, start, fixed, images, labels)
        seconds.append(took)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results.put((side, loss, {name: part.numpy() for name, part in gradients.items()}, seconds[1:], before, peak))


def relative_difference(ours: dict, plain: dict, part: str) -> float:
    """||ours - plain|| / ||plain|| over the tensors of a part of the model."""
    names = [name for name in ours if name.startswith(part)]
    return float(sum(((ours[name] - plain[name]) ** 2).sum() for name in names) ** 0.5
                 / sum((plain[name] ** 2).sum() for name in names) ** 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    sides = {}
    for side in ("ours", "plain"):
        results = multiprocessing.get_context("spawn").Queue()
        process = multiprocessing.get_context("spawn").Process(
            target=measure, args=(side, arguments.threads, arguments.repeats, results))
        process.start()
        sides[side] = results.get()
        process.join()
    print(f"RN50 text tower, {len(NAMES)} names, batch {BATCH}, {EXPERTS} experts, fp32, {arguments.threads} threads")
    print("side   median s      min s      max s   peak MiB   of which the step")
    for side, (_, _, _, seconds, before, peak) in sides.items():
        print(f"{side:6} {statistics.median(seconds):8.3f} {min(seconds):10.3f} {max(seconds):10.3f} "
              f"{peak / 1024:10.0f} {(peak - before) / 1024:10.0f}")
    ours, plain = sides["ours"], sides["plain"]
    differences = [f"{part} {relative_difference(ours[2], plain[2], part):.1e}" for part in ("prompt", "gate")]
    print(f"ratio of medians {statistics.median(plain[3]) / statistics.median(ours[3]):.1f}; losses {ours[1]:.6f} and "
          f"{plain[1]:.6f}; relative difference of the gradients: {', '.join(differences)}")



if __name__ == "__main__":
    main()
