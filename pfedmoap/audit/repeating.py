"""Checks of runs as a whole: repeated, in another order, with batches that do not fit, and at the limits."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from pfedmoap.audit.adapter import Adapter
from pfedmoap.audit.case import Case, Images, golden_case
from pfedmoap.audit.findings import CLOSE, NOTHING_TRAINED, ONE_STEP, USUAL, Played, Seen, difference, play, trains

SMALLEST, ODD = 3, 1  # the client with 3 images, fewer than a batch; the client with 5, a batch and one more


def same_seed(adapter: Adapter, case: Case) -> Seen:
    """The same seed twice gives the same run, bit for bit."""
    one, two = (play(adapter, case, case.rounds).tensors() for _ in range(2))
    apart = difference(one, two)
    return Seen(apart == 0, f"two runs of {case.rounds} rounds differ by {apart:.2g}", {"difference": apart})


def order(adapter: Adapter, case: Case) -> Seen:
    """It does not matter in which order the clients of a round train."""
    if not trains(adapter, case):
        return NOTHING_TRAINED
    there = play(adapter, case, case.rounds)
    back = play(adapter, case, case.rounds, clients=range(case.clients)[::-1])
    apart = difference(there.tensors(), back.tensors())
    return Seen(apart <= CLOSE, f"with the clients in reversed order everything differs by {apart:.2g} at most",
                {"difference": apart})


def padding(adapter: Adapter, case: Case) -> Seen:
    """A client with fewer images than a batch takes the mean over its images, and over nothing else."""
    images, losses, after = len(case.train_rows[SMALLEST]), [], []
    for size in (images, images + 5):
        adapter.start(case)
        step = adapter.local_step(SMALLEST, replace(ONE_STEP, batch_size=size))
        losses.append(step.loss)
        after.append(step.after)
    if not step.before:
        return NOTHING_TRAINED
    apart = max(difference(*after), abs(losses[0] - losses[1]))
    return Seen(apart <= CLOSE, f"{images} images in a batch of {images + 5} and in one of {images} differ by "
                                f"{apart:.2g}", {"difference": apart, "losses": losses})


def last_batch(adapter: Adapter, case: Case) -> Seen:
    """The incomplete last batch of an epoch is dropped or kept, as claimed."""
    recipe, rows = replace(ONE_STEP, batch_size=4), case.train_rows[ODD]

    def step(each: Case):
        adapter.start(each)
        return adapter.local_step(ODD, recipe)

    plain, used = step(case), 0
    if not plain.before:
        return NOTHING_TRAINED
    for row in rows:
        features = case.train.features.clone()
        features[row] = F.normalize(features[row].flip(-1) + 0.3, dim=-1)
        other = step(replace(case, train=Images(features, case.train.labels)))
        used += difference(plain.after, other.after) > 0
    due = len(rows) // 4 * 4 if adapter.claims.last_batch == "dropped" else len(rows)
    return Seen(used == due, f"an epoch in batches of 4 uses {used} of {len(rows)} images (claimed {due})",
                {"used": used, "claimed": due})


def company(adapter: Adapter, case: Case) -> Seen:
    """Predictions do not depend on the images beside them, and testing changes nothing."""
    quiet = play(adapter, case)
    together = adapter.predict(0, case.probes)
    alone = torch.cat([adapter.predict(0, probe[None]) for probe in case.probes])
    apart = {"alone or together": difference({"": together}, {"": alone}),
             "asked again": difference({"": quiet.scores[0]}, {"": together}),
             "tested in every round": difference(quiet.tensors(), play(adapter, case, looking=True).tensors())}
    wrong = [label for label, most in apart.items() if most > CLOSE]
    return Seen(not wrong, f"scores differ: {', '.join(wrong)}" if wrong else
                "the same alone, together, again, and in a run that is tested in every round", apart)


def one_client(adapter: Adapter, case: Case) -> Seen:
    """A federation of one client runs, and its average is what that client sent."""
    case = golden_case(sizes=(6,))
    played = play(adapter, case)
    received = adapter.local_step(0, USUAL).received
    sent = played.uploads[-1][0]
    off = max([difference({"": received[name].float()}, {"": sent[name].float()})
               for name in adapter.claims.averaged if name in received], default=0.0)
    if off > CLOSE:
        return Seen(False, f"the average of one upload is off by {off:.1g}", {"difference": off})
    return _finite(played, "one client")


def one_class(adapter: Adapter, case: Case) -> Seen:
    """Clients whose images are all of one class run."""
    return _finite(play(adapter, golden_case(classes=(2,))), "one class")


def no_experts(adapter: Adapter, case: Case) -> Seen:
    """A client that is alone for two rounds, before others join, runs; so do those who join."""
    alone = play(adapter, case, 2, clients=(2,))
    steps = {client: adapter.local_step(client, USUAL) for client in (0, 2)}
    adapter.aggregate({client: adapter.upload(client) for client in steps})
    joined = Played([steps], [{client: adapter.upload(client) for client in steps}],
                    {client: adapter.predict(client, case.probes) for client in range(case.clients)})
    seen = _finite(alone, "a client alone")
    return _finite(joined, "a client alone, then two") if seen.holds else seen


def _finite(played: Played, who: str) -> Seen:
    """Whether all numbers of a run are numbers; a score may be -inf, which is no answer."""
    bad = [name for name, tensor in played.tensors().items()
           if tensor.isnan().any() or not name.startswith("scores") and tensor.isinf().any()]
    return Seen(not bad, f"{who}: not a number in {', '.join(bad[:3])}" if bad else f"{who}: all numbers are finite",
                {"not finite": len(bad)})
