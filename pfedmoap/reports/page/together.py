"""What the report says of all tables together: what their numbers are, what they rest on, and what is missing."""

from collections.abc import Callable, Iterable, Sequence

from pfedmoap.reports.page.collected import Entry, command

WHAT_IT_IS = {
    "smoke": "These numbers are proof that every notebook runs, and nothing more: a few images and steps, one seed, "
             "on embedded data and a small CLIP.",
    **{profile: "These numbers come from photographs that ship with the kit (Caltech101, some of them redrawn, and "
                "scikit-learn's handwritten digits), and from a small CLIP: an image tower that was trained on "
                f"ImageNet, and a text tower that was taught WordNet's names; {budget}. It is not OpenAI's CLIP, and "
                "these are not the paper's data: the published cells stand here to be at hand, not to be compared one "
                "by one."
       for profile, budget in (("quick", "at a budget of minutes"), ("long", "at the paper's own budget"))},
    "paper": "These numbers come from the paper's data and CLIP weights; the captions say which settings are not "
             "those of section 4.1. Under every reproduced line stand the published one and the difference.",
}  # fmt: skip


def totals(entries: Iterable[Entry]) -> tuple[int, float]:
    """Runs and their seconds in all; a run that stands in several tables counts once."""
    runs = {key: seconds for entry in entries if entry.facts for key, seconds in entry.facts["seconds_by_run"].items()}
    return len(runs), sum(runs.values())


def rests_on(entries: Sequence[Entry]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What the tables rest on: kind of fact -> its values, each with the tables that it is true of."""
    made = [entry for entry in entries if entry.facts]
    kinds: dict[str, Callable[[dict], list[str]]] = {
        "seeds": lambda facts: [", ".join(map(str, facts["seeds"]))],
        "CLIP": lambda facts: facts["clip"],
        "data": lambda facts: facts["data"],
        "device": lambda facts: facts["devices"],
        "machine": lambda facts: facts["machines"],
        "versions": lambda facts: [", ".join(f"{name} {number}" for name, number in versions.items())
                                   for versions in facts["versions"]],
        "commit": lambda facts: [facts["commit"].replace("+", ", with changes that were not committed")],
    }  # fmt: skip
    found = []
    for kind, values_of in kinds.items():
        where: dict[str, list[str]] = {}
        for entry in made:
            for value in filter(None, values_of(entry.facts)):
                where.setdefault(value, []).append(entry.title)
        found.append((kind, [(value, "all" if len(titles) == len(made) else ", ".join(titles))
                             for value, titles in where.items()]))  # fmt: skip
    return [(kind, lines) for kind, lines in found if lines]


def gaps(entries: Iterable[Entry], profile: str) -> list[tuple[str, str, str]]:
    """What is not there or not up to date: titles, why, and the command that mends it."""
    titles: dict[str, list[str]] = {}  # by reason
    names: dict[str, dict[str, None]] = {}
    for entry in entries:
        found = [(entry.title, entry.why)] if entry.why else []
        found += [(f"{entry.title}, {column}", why) for column, why in entry.facts.get("missing", {}).items()]
        for title, why in found:
            titles.setdefault(why, []).append(title)
            names.setdefault(why, {})[entry.name] = None
    return [("; ".join(titles[why]), why.rstrip("."), command(names[why], profile)) for why in titles]


def duration(seconds: float) -> str:
    """ "48 s", "3 min 5 s" or "2 h 10 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
