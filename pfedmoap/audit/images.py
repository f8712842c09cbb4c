"""Checks of images, labels and names: that they belong together, and that nobody sees what is not theirs."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from pfedmoap.audit.adapter import Adapter
from pfedmoap.audit.case import Case, Images
from pfedmoap.audit.findings import CLOSE, ONE_STEP, USUAL, Seen, difference, play

STRANGER = "zebra crossing"  # a name that is not in the case
SLOW = replace(ONE_STEP, lr=1e-3)


def pairing(adapter: Adapter, case: Case) -> Seen:
    """It does not matter in which order a data set lists its images, as each has its own label."""
    order = np.random.default_rng(5).permutation(len(case.train.labels))
    one, other = (play(adapter, each, recipe=ONE_STEP) for each in (case, _listed(case, order)))
    apart = difference(one.tensors(), other.tensors())
    return Seen(apart <= CLOSE, f"with the images listed in another order everything differs by {apart:.2g} at most",
                {"difference": apart})


def own_labels(adapter: Adapter, case: Case) -> Seen:
    """With another label for one of its images, a client's model gives that image more of the other label."""
    def scores(each: Case, client: int, row: int) -> torch.Tensor:
        adapter.start(each)
        adapter.local_step(client, SLOW)
        adapter.aggregate({client: adapter.upload(client)})
        return adapter.predict(client, each.train.features[row : row + 1])[0]

    gains = {}
    for client, rows in enumerate(case.train_rows):
        for row in rows[:2].tolist():
            was = case.train.labels[row].item()
            now, labels = (was + 1 + client) % len(case.names), case.train.labels.clone()
            labels[row] = now
            plain, other = (scores(each, client, row) for each in
                            (case, replace(case, train=Images(case.train.features, labels))))
            if not torch.equal(plain, other):
                gains[row] = ((other[now] - other[was]) - (plain[now] - plain[was])).item()
    if not gains:
        return Seen(None, "scores do not depend on labels")
    right = sum(gain > 0 for gain in gains.values())
    return Seen(right == len(gains), f"{right} of {len(gains)} images follow their own label", {"gains": gains})


def names(adapter: Adapter, case: Case) -> Seen:
    """The name of a class, changed, changes the scores of that class most, before anything is trained in rounds."""
    def scores(class_names: Sequence[str]) -> torch.Tensor:
        adapter.start(replace(case, names=tuple(class_names)))
        return adapter.predict(0, case.probes)

    plain, driven = scores(case.names), dict[int, int]()
    for label in range(len(case.names)):
        change = (scores([*case.names[:label], STRANGER, *case.names[label + 1 :]]) - plain).abs().nan_to_num(0).amax(0)
        if change.max() > CLOSE:  # else it is a class that the client never answers
            driven[label] = int(change.argmax())
    if not driven:
        return Seen(None, "scores do not depend on names")
    wrong = [label for label, column in driven.items() if column != label]
    words = f"; the name of class {wrong[0]} drives the scores of class {driven[wrong[0]]}" if wrong else ""
    return Seen(not wrong, f"{len(driven) - len(wrong)} of {len(driven)} names drive their own class{words}",
                {"class by name": driven})


def own_images(adapter: Adapter, case: Case) -> Seen:
    """Before anything is averaged, nothing that a client does depends on another client's images."""
    def seen(each: Case) -> dict[str, torch.Tensor]:
        adapter.start(each)
        for client in reversed(range(case.clients)):
            step = adapter.local_step(client, USUAL)
        sent = {f"sent {name}": tensor for name, tensor in adapter.upload(0).items()}
        return step.after | sent | {"loss": torch.tensor(step.loss), "scores": adapter.predict(0, case.probes)}

    plain = seen(case)
    apart = {other: difference(plain, seen(case.with_features(other))) for other in range(1, case.clients)}
    own = difference(plain, seen(case.with_features(0)))
    tell = [other for other, most in apart.items() if most > CLOSE]
    words = f"client 0 depends on the images of clients {tell}" if tell else "client 0 depends on no one else's images"
    return Seen(not tell, words, {"by others' images": apart, "by its own": own})


def test_images(adapter: Adapter, case: Case) -> Seen:
    """Test images and their labels change neither what is trained nor which model is kept."""
    recipe = replace(USUAL, epochs=1)

    def answers() -> torch.Tensor:
        labels = torch.zeros_like(case.test.labels)
        for client, rows in enumerate(map(torch.from_numpy, case.test_rows)):
            labels[rows] = adapter.predict(client, case.test.features[rows]).argmax(1)
        return labels

    def run(test: Images) -> dict[str, torch.Tensor]:
        return play(adapter, replace(case, test=test), case.rounds, recipe).tensors()

    play(adapter, case, 1, recipe)
    first, features = answers(), case.test.features
    play(adapter, replace(case, rounds=2 * case.rounds), case.rounds, recipe)  # nothing is chosen yet
    last, plain = answers(), run(case.test)
    others = {"other images": Images(F.normalize(features.flip(-1), dim=-1), case.test.labels),
              "labels that the first round's models give": Images(features, first),
              "labels that they never give": Images(features, (first + 1) % len(case.names)),
              "labels that the last round's models give": Images(features, last)}
    apart = {label: difference(plain, run(test)) for label, test in others.items()}
    tell = [label for label, most in apart.items() if most > 0]
    changed = (first != last).sum().item()
    return Seen(not tell, f"training, or the choice of a model, looks at the test split: it changes with "
                          f"{' and with '.join(tell)}" if tell else "nothing changes with the test images or labels",
                apart | {"answers that differ between first and last round": changed})


def _listed(case: Case, order: np.ndarray) -> Case:
    """The same case with its training images listed in another order."""
    place = np.argsort(order)
    train = Images(case.train.features[order], case.train.labels[order])
    return replace(case, train=train, train_rows=tuple(np.sort(place[rows]) for rows in case.train_rows))
