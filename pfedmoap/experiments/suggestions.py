"""What your own pictures suggest: who owns what, how many clients there are, and whether this CLIP knows them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pfedmoap.beyond import LOCAL, question
from pfedmoap.data import ON_DISK, ImageSet, image_features, is_own, suggested
from pfedmoap.experiments.datasets import load_dataset
from pfedmoap.experiments.experiment import Experiment
from pfedmoap.experiments.preparation import Place, clip_of, dealt
from pfedmoap.prompts import PromptEncoder
from pfedmoap.system import cache_dir

MOST_LOOKED_AT = 2000  # test images
ERRORS_ABOVE_CHANCE = 2  # binomial standard errors


def suggested_settings(imageset: ImageSet, given: Mapping[str, Any] = {}) -> dict[str, Any]:
    """The settings that a set of your own asks for in place of a profile's.

        imageset = load_dataset("folders", DIR)
        experiment = from_profile("folders", PFedMoAP(), base=suggested_settings(imageset))

    Clients keep what they own, a domain is a client, and classes that nobody owns are dealt out (`data.suggested`). All
    training images are used, unless whole classes are dealt: then the profile's shots are.

    Args:
        imageset: any set; those that are not `folders` or `hf:...` suggest nothing.
        given: settings that are decided already, such as partition, clients or evaluate; they are kept, and the others
            fit them.

    Returns:
        Those of partition, clients and shots that are suggested and not given.

    Raises:
        UserError: there are too few classes or images to share.
    """
    if not is_own(imageset.name):
        return {}
    imageset = question(given.get("evaluate", LOCAL)).seen(imageset).imageset  # what is dealt
    partition, clients = suggested(imageset, given.get("partition"), given.get("clients"))
    settings = {"partition": partition, "clients": clients}
    if partition != "label_disjoint":
        settings["shots"] = None
    return {name: value for name, value in settings.items() if name not in given}


def chosen_in_words(imageset: ImageSet, settings: Mapping[str, Any]) -> str:
    """One line that says what was chosen (by `suggested_settings`), why, and how to choose otherwise."""
    if not settings:
        return "chosen: nothing, as all is given"
    chosen = " ".join(f"--{name} {'none' if value is None else value}" for name, value in settings.items())
    if imageset.clients:
        why = f"{len(imageset.clients)} clients own the pictures"
    elif imageset.domain_names:
        why = f"the pictures have {len(imageset.domain_names)} domains"
    else:
        why = f"nobody owns the pictures, which have {len(imageset.class_names)} classes"
    return f"chosen: {chosen}, as {why} (to choose otherwise: {', '.join(f'--{name}' for name in settings)})"


def poor_match(experiment: Experiment, place: Place = Place(), progress: bool = False) -> str | None:
    """A warning if zero-shot CLIP cannot be told from guessing on a run's test images, by two standard errors.

    Looks at up to `MOST_LOOKED_AT` of them, whose features the run needs anyway.

    Returns:
        One sentence with the remedy; None if CLIP knows the pictures, or if the set is embedded.

    Raises:
        UserError: what the run itself would be refused for.
    """
    if not is_own(experiment.dataset) and experiment.dataset not in ON_DISK:
        return None
    imageset = load_dataset(experiment.dataset, place.data_root)
    tested = np.unique(np.concatenate(dealt(experiment, imageset).test))
    tested = tested[np.unique(np.linspace(0, len(tested) - 1, min(len(tested), MOST_LOOKED_AT)).astype(int))]
    clip = clip_of(experiment, place)
    table = image_features(clip, imageset, "test", cache_dir=Path(place.cache or cache_dir()), indices=tested,
                           progress=progress, preprocess=experiment.protocol.cifar_preprocess)
    text = PromptEncoder(clip, imageset.class_names).handwritten().cpu()  # (C, d)
    guesses = (torch.from_numpy(table[0, tested]) @ text.T).argmax(-1).numpy()  # (n,)
    accuracy = float(np.mean(guesses == imageset.test.labels[tested]))
    chance = 1 / len(imageset.class_names)
    if accuracy >= chance + ERRORS_ABOVE_CHANCE * (chance * (1 - chance) / len(tested)) ** 0.5:
        return None
    return (f"{clip.name} hardly knows these pictures: untrained (ZS-CLIP) it is right on {100 * accuracy:.1f} % of "
            f"{len(tested)} test images, which cannot be told from guessing ({100 * chance:.1f} %): use a CLIP that "
            f"was trained on such pictures (--model ViT-B-32-quickgelu --weights openai, or --weights FILE)")
