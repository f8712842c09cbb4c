"""Makes the embedded CLIP anew: `python -m pfedmoap.embedded.recipe --out DIR`, or `make embedded-clip`.

The image tower is EfficientNet-Lite0 as trained on ImageNet, and the joint space is what its classifier's rows span.
The text tower is taught from WordNet's names where in that space things lie. No picture is used.
"""

import argparse
import csv
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from timm.data import ImageNetInfo

from pfedmoap.clip import load_clip
from pfedmoap.embedded import concepts, image_tower, text_tower, weights
from pfedmoap.embedded.accuracy import accuracies
from pfedmoap.embedded.phrases import Phrases
from pfedmoap.embedded.sets import NAMES, VALIDATION, load
from pfedmoap.embedded.wordnet import FOLDER, WordNet

STEPS = 5000
LOGGED_EVERY = 100
_log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> None:
    """Trains, and writes weights, the log and the accuracies."""
    parser = argparse.ArgumentParser(description="Make the embedded CLIP from ImageNet weights and WordNet's names.")
    parser.add_argument("--seed", type=int, default=0, help="of the text tower's start and of the captions")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the text tower")
    parser.add_argument("--threads", type=int, default=1, help="of torch; the numbers depend on it in the last digits")
    parser.add_argument("--wordnet", type=Path, default=FOLDER, help="folder of WordNet 3.0's files")
    parser.add_argument("--sets", default=",".join(NAMES), help="embedded sets whose accuracy is written")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, log and accuracies")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / weights.WEIGHTS.name
    start = time.perf_counter()
    with (options.out / weights.TRAINING.name).open("w", newline="") as file:
        facts = make(options.seed, options.steps, WordNet(options.wordnet), path, _logging_to(file, options.steps))
    facts |= {"seed": options.seed, "steps": options.steps, "seconds": round(time.perf_counter() - start)}
    names = [name + draw for name in filter(None, options.sets.split(",")) for draw in ("", VALIDATION)]
    facts["sets"] = accuracies(load_clip(weights.NAME, str(path)), map(load, names))
    (options.out / weights.FIGURES.name).write_text(json.dumps(facts, indent=1) + "\n")


def make(seed: int, steps: int, wordnet: WordNet, path: Path, report: Callable[[int, float], None]) -> dict:
    """Builds and teaches the model, and writes its weights to `path`.

    Returns:
        Facts: how many names, senses and tokens; how many left-out ImageNet classes are placed nearest to themselves.
    """
    config = weights.configuration()
    classifier = image_tower.as_timm(image_tower.pretrained_weights())
    known, kernel = tuple(ImageNetInfo().label_names()), concepts.Kernel(wordnet)
    projection, places = concepts.joint_space(classifier["classifier.weight"].numpy(), config["embed_dim"])
    names = concepts.named_places(kernel, known, places)
    torch.manual_seed(seed)
    model = weights.build(config)
    image_tower.put_into(model.visual, classifier, torch.from_numpy(projection))
    ids = text_tower.teach(model, Phrases(names, wordnet), names.targets, seed, steps, report)
    weights.save(model, ids, path)
    return {"names": len(names.names), "senses": len(names.sense_kinds), "tokens": len(ids),
            "held_out_classes": round(concepts.held_out_accuracy(kernel, known, places), 4)}


def _logging_to(file, steps: int) -> Callable[[int, float], None]:
    """A report that writes the mean loss of every `LOGGED_EVERY` steps as a row of a CSV file."""
    writer, losses, start = csv.writer(file, lineterminator="\n"), [], time.perf_counter()
    writer.writerow(("step", "loss", "seconds"))

    def report(step: int, loss: float) -> None:
        losses.append(loss)
        if step % LOGGED_EVERY == 0 or step == steps:
            mean, seconds = sum(losses) / len(losses), time.perf_counter() - start
            writer.writerow((step, f"{mean:.4f}", f"{seconds:.0f}"))
            file.flush()
            _log.info("step %d of %d: loss %.3f, %.0f s", step, steps, mean, seconds)
            losses.clear()

    return report


if __name__ == "__main__":
    main()
