"""The privacy that clients have spent: epsilon of all of a client's uploads so far together, round by round.

An upload is a Gaussian mechanism whose noise multiplier is its noise over its sensitivity. Several of them with
multipliers z_1, z_2, ... are one with (1 / z_1^2 + 1 / z_2^2 + ...)^(-1/2) (Dong, Roth and Su 2022), also where what is
sent next depends on what was sent before. That clients are sampled adds nothing: the server knows who took part.

Counted is what the server let in or a filter refused. What was refused at the door is not, as of its noise nothing is
known.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from pfedmoap.client import count_steps
from pfedmoap.federation import Plan, Round
from pfedmoap.privacy import sensitivity

Line = dict[str, Any]


def composed_epsilon(multipliers: Iterable[float], delta: float) -> float:
    """Epsilon at delta of Gaussian mechanisms together; infinity where one has no noise, 0 of none.

    Args:
        multipliers: standard deviation of the noise over the sensitivity, of each.
    """
    import dp_accounting  # slow to import, which runs without privacy need not wait for

    multipliers = list(multipliers)
    if not multipliers:
        return 0.0
    if not all(multipliers):
        return math.inf
    return dp_accounting.get_epsilon_gaussian(sum(z**-2 for z in multipliers) ** -0.5, delta)


def spent(history: Iterable[Round], plan: Plan, sizes: Sequence[int]) -> list[Line]:
    """One line per upload of a run with privacy, in the order of rounds and clients; of one without none.

    Args:
        sizes: n_i, every client's number of training images.

    Returns:
        Plain data, fit for JSON: "round", "client", "uploads" (so far), "multiplier" of this one, "epsilon" at the
        plan's delta of all so far, "inf" without noise.
    """
    if plan.privacy is None:
        return []
    recipe, lines = plan.recipe, []
    used: dict[int, list[float]] = {}
    for entry in history:
        for client, sigma in sorted(entry.sigmas.items()):
            reach = sensitivity(count_steps(sizes[client], recipe), recipe.lr, plan.privacy.clip, recipe.momentum)
            own = used.setdefault(client, [])
            own.append(sigma / reach)
            epsilon = composed_epsilon(own, plan.privacy.delta)
            lines.append({"round": entry.number, "client": client, "uploads": len(own), "multiplier": own[-1],
                          "epsilon": "inf" if math.isinf(epsilon) else epsilon})
    return lines


def in_words(lines: Sequence[Line], delta: float) -> list[str]:
    """What clients have spent in the end, those that are alike on one line."""
    last: dict[int, Line] = {line["client"]: line for line in lines}
    groups: dict[tuple[int, str], list[int]] = {}
    for client, line in sorted(last.items()):
        groups.setdefault((line["uploads"], f"{float(line['epsilon']):.2f}"), []).append(client)
    return [f"privacy spent: ε = {epsilon} at δ = {delta:g} by {uploads} upload{'s' * (uploads > 1)} of client"
            f"{'s' * (len(clients) > 1)} {', '.join(map(str, clients))}"
            for (uploads, epsilon), clients in sorted(groups.items())]
