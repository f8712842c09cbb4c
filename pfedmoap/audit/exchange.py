"""Checks of what travels: neighbours, the average, and what must never leave a client."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from pfedmoap.audit.adapter import Adapter, Lent
from pfedmoap.audit.case import Case
from pfedmoap.audit.findings import CLOSE, NOTHING_TRAINED, ONE_STEP, Seen, difference, play, trains

ON_A_LINE = (0, 1, -1, 3, -3)  # client 0 is as far from client 1 as from client 2, and 1 as far from 2 as from 3


def neighbours(adapter: Adapter, case: Case) -> Seen:
    """Clients are lent the K nearest others in l2 distance, nearest first, ties by id, and never their own prompt."""
    lent = adapter.claims.lent
    if lent is None:
        return Seen(None, "nobody is lent anything")
    wrong, numbers = [], {}
    for kind in ("on a line, with ties", "anywhere"):
        sent = _placed(adapter, case, lent, kind == "anywhere")
        steps = {client: adapter.local_step(client, ONE_STEP) for client in sent}
        for client, step in steps.items():
            rows = step.received.get(lent.received, torch.zeros(0))
            got = [next((one for one in sent if torch.equal(row.float(), sent[one])), None) for row in rows]
            due = _nearest(sent, client, lent.most)
            numbers[f"{kind}: {client}"] = got
            if got != due:
                itself = ", itself among them" if client in got else ""
                wrong.append(f"{kind}, client {client} is lent {got}{itself}, not {due}")
    if wrong:
        return Seen(False, f"{len(wrong)} of {len(numbers)} wrong: {wrong[0]}", numbers)
    return Seen(True, f"all {len(numbers)} clients are lent their {lent.most} nearest others", numbers)


def average(adapter: Adapter, case: Case) -> Seen:
    """The server averages uploads by the clients' numbers of images, over those who took part and nobody else."""
    names, off = adapter.claims.averaged, {}
    if not names:
        return Seen(None, "nothing is averaged")
    for label, clients in (("all clients", range(case.clients)), ("two of them", (1, 3))):
        noise = torch.Generator().manual_seed(3)
        sent = play(adapter, case, 1, ONE_STEP, clients).uploads[0]
        adapter.start(case)
        for client in clients:
            adapter.local_step(client, ONE_STEP)
        drawn = {client: upload | {name: torch.randn(upload[name].shape, generator=noise) for name in names}
                 for client, upload in sent.items()}
        adapter.aggregate(drawn)
        received = adapter.local_step(0, ONE_STEP).received
        images = sum(len(case.train_rows[client]) for client in clients)
        due = {name: sum(len(case.train_rows[client]) / images * drawn[client][name] for client in clients)
               for name in names}
        off[label] = difference({name: received[name].float() for name in names if name in received}, due)
    return Seen(max(off.values()) <= CLOSE, ", ".join(f"{label}: off by {apart:.2g}" for label, apart in off.items()),
                off)


def personal(adapter: Adapter, case: Case) -> Seen:
    """What is personal leaves no trace in an upload: with a learning rate of 0, changing it changes nothing sent."""
    if not trains(adapter, case):
        return NOTHING_TRAINED
    still, prefixes = replace(ONE_STEP, lr=0.0), adapter.claims.personal
    play(adapter, case, 1, ONE_STEP)
    step = adapter.local_step(0, still)
    plain = {name: tensor.clone() for name, tensor in adapter.upload(0).items()}
    if not prefixes:
        return Seen(None, f"nothing is claimed to be personal; sent: {', '.join(plain) or 'nothing'}")
    own = [name for name in step.before if name.startswith(prefixes)]
    if not own:
        return Seen(False, f"none of the trained tensors is called {' or '.join(prefixes)}")
    canaries = {name: step.before[name] + 0.5 for name in own}
    adapter.local_step(0, still, step.before | canaries)
    marked = adapter.upload(0)
    traces = sorted(name for name in marked if name not in plain or not torch.equal(marked[name], plain[name]))
    named = sorted(name for name in marked if name.startswith(prefixes))
    size = sum(tensor.nbytes for tensor in marked.values())
    if traces or named:
        return Seen(False, f"{', '.join(sorted({*traces, *named}))} in an upload tells of what is personal",
                    {"bytes": size})
    return Seen(True, f"{len(own)} personal tensors leave no trace in {', '.join(marked) or 'an empty upload'}",
                {"bytes": size, "personal": len(own)})


def _placed(adapter: Adapter, case: Case, lent: Lent, anywhere: bool) -> dict[int, torch.Tensor]:
    """A round after which the server has prompts at chosen places; returns each client's."""
    sent = play(adapter, case, 1, ONE_STEP).uploads[0]
    adapter.start(case)
    noise, placed = torch.Generator().manual_seed(4), {}
    for client, upload in sent.items():
        adapter.local_step(client, ONE_STEP)
        prompt = torch.zeros_like(upload[lent.upload], dtype=torch.float32)
        if anywhere:
            prompt = torch.randn(prompt.shape, generator=noise)
        else:
            prompt.view(-1)[0] = ON_A_LINE[client]
        placed[client] = prompt
    adapter.aggregate({client: sent[client] | {lent.upload: placed[client].clone()} for client in sent})
    return placed


def _nearest(placed: Mapping[int, torch.Tensor], client: int, count: int) -> list[int]:
    """The plain definition, worked out with whole distances."""
    apart = {other: (placed[other] - placed[client]).double().square().sum().item() for other in placed
             if other != client}
    return sorted(apart, key=lambda other: (apart[other], other))[:count]
