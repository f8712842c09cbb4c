"""The report as Markdown: what a visitor of the results folder sees first on a code host."""

import os
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from tabulate import tabulate

from pfedmoap.reports.claims import read_verdicts
from pfedmoap.reports.layout import MARKDOWN, Block, markdown
from pfedmoap.reports.page.collected import MISSING, Entry, collect, others
from pfedmoap.reports.page.together import WHAT_IT_IS, duration, totals


def overview(profile: str, results: Path, figures: Path) -> str:
    """What was run, then of every table what was run here, with links to the files in the two folders."""
    entries = collect(profile, results, figures)
    runs, seconds = totals(entries)
    lines = [[_link(entry) if entry.facts else entry.title, entry.subject, *_numbers(entry), _state(entry)]
             for entry in entries]
    lines.append(["together", "runs that several share count once", runs, duration(seconds), "", ""])
    headings = ["", "what varies", "runs", "time", "seeds", "state"]
    parts = [
        f"# Results of the profile {profile}",
        WHAT_IT_IS[profile],
        f"Written by `pfedmoap report --profile {profile}`. The page that it builds besides, `report.html`, has the "
        f"published numbers, the controls, the figures and the provenance too.",
        tabulate(lines, headings, tablefmt="pipe", disable_numparse=True)]
    for entry in entries:
        parts += _section(entry, results, figures)
    return "\n\n".join([*parts, *_claims(profile, results), *_others(results, figures)]) + "\n"


def _section(entry: Entry, results: Path, figures: Path) -> list[str]:
    parts = [f"## {entry.title}: {entry.subject}"]
    if entry.why:
        parts.append(f"**{entry.state.capitalize()}**: {entry.why}. Run `{entry.command}`")
    if entry.state == MISSING:
        return parts
    block = entry.facts["table"]["blocks"][0]
    rows = list(map(markdown, block["rows"]))
    text, bold, underlined = (pd.DataFrame(block[name], rows) for name in ("cells", "bold", "underlined"))
    text = text.map(markdown)
    cells = Block("", text, bold, underlined=underlined).marked(text, *MARKDOWN).reset_index().to_numpy().tolist()
    links = [f"[everything]({entry.name}.md)", f"[CSV]({entry.name}.csv)", f"[LaTeX]({entry.name}.tex)"]
    links += [_to_file(path, results) for path in entry.figures.values()]
    table = tabulate(cells, ["", *map(markdown, block["columns"])], tablefmt="pipe", disable_numparse=True)
    reading = markdown(" ".join(entry.facts["reading"]))
    return [*parts, f"*{markdown(block['heading'])}*", table, reading, " · ".join(links)]


def _claims(profile: str, results: Path) -> list[str]:
    """What the results say of every claim, if it was judged."""
    verdicts = read_verdicts(results)
    if not verdicts:
        return []
    judged = (f"Judged by `pfedmoap verify --profile {profile}`; a claim about the paper's own data and CLIP is *toy* "
              f"on stand-ins for them, whatever holds there.")
    parts = ["## Claims", judged]
    for by, title in (("paper", "The paper's"), ("kit", "This kit's")):
        lines = [[*map(markdown, (one.says, one.shown, one.words)), "" if one.p is None else f"{one.p:.2g}"]
                 for one in verdicts if one.by == by]
        parts.append(tabulate(lines, [title, "verdict", "found", "p"], tablefmt="pipe", disable_numparse=True))
    return parts


def _others(results: Path, figures: Path) -> list[str]:
    """Links to what the other notebooks wrote."""
    tables, pictures = others(results, figures)
    links = [f"- {_to_file(path, results)}" for path in (*tables, *pictures)]
    return ["## From the other notebooks", "\n".join(links)] if links else []


def _numbers(entry: Entry) -> tuple[str, str, str]:
    if not entry.facts:
        return "", "", ""
    return str(entry.facts["runs"]), duration(entry.seconds), ", ".join(map(str, entry.facts["seeds"]))


def _state(entry: Entry) -> str:
    return f"{entry.state}: `{entry.command}`" if entry.why else entry.state


def _link(entry: Entry) -> str:
    """To the entry's section, by the anchor that code hosts give its heading."""
    heading = f"{entry.title}: {entry.subject}".lower().replace(" ", "-")
    return f"[{entry.title}](#{''.join(letter for letter in heading if letter.isalnum() or letter in '-_')})"


def _to_file(path: Path, folder: Path) -> str:
    return f"[{markdown(path.name)}]({quote(Path(os.path.relpath(path, folder)).as_posix())})"
