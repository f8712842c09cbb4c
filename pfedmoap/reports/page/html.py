"""The report as one HTML page that needs nothing else: styles and figures are in it."""

import base64
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from pfedmoap.errors import UserError, refuse_unknown
from pfedmoap.reports.claims import read_verdicts
from pfedmoap.reports.page.collected import KINDS, collect, others
from pfedmoap.reports.page.together import WHAT_IT_IS, duration, gaps, rests_on, totals
from pfedmoap.system import PROFILES, printable

UNDER = ("published", "difference", "released protocol", "difference, released protocol")  # lines under a method's own
MOST_LINES = 60  # of a table that another notebook wrote
COLORS = 256  # of a figure on the page, which makes it half as large and looks the same


def build(profile: str, results: Path, figures: Path) -> str:
    """The page of a profile, from the files in its two folders alone; the same files give the same page.

    Raises:
        UserError: an unknown profile.
    """
    refuse_unknown([profile], list(PROFILES), "profile")
    entries = collect(profile, results, figures)
    tables, pictures = others(results, figures)
    runs, seconds = totals(entries)
    environment = Environment(loader=PackageLoader("pfedmoap.reports.page", ""), autoescape=True, trim_blocks=True,
                              lstrip_blocks=True, undefined=StrictUndefined, finalize=_shown)
    environment.filters["glued"] = glued
    return environment.get_template("report.html.j2").render(
        profile=profile, what_it_is=WHAT_IT_IS[profile], entries=entries, runs=runs, seconds=seconds,
        duration=duration, verdicts=read_verdicts(results), rests_on=rests_on(entries), gaps=gaps(entries, profile),
        blocks={entry.name: blocks(entry.facts["table"]) for entry in entries if entry.facts},
        pictures={entry.name: [picture(path, shows) for shows, path in entry.figures.items()] for entry in entries},
        other_tables=[_frame(path) for path in tables],
        other_pictures=[picture(path, _name(path)) for path in pictures])


def blocks(table: dict[str, Any]) -> list[dict[str, Any]]:
    """The blocks of a table (`Table.to_dict`) as the template wants them; columns are named where they change."""
    found, columns = [], None
    for block in sorted(table["blocks"], key=lambda block: KINDS.index(block["kind"])):
        lines = zip(block["rows"], block["cells"], block["bold"], block["underlined"], strict=True)
        rows = [{"title": _title_in(block["kind"], title), "under": _under(title),
                 "cells": list(zip(*marked, strict=True))} for title, *marked in lines]
        named = block["columns"] if block["columns"] != columns else None
        found.append({"kind": block["kind"], "heading": block["heading"], "columns": named, "rows": rows})
        columns = block["columns"]
    return found


def picture(path: Path, shows: str) -> dict[str, Any]:
    """A figure as a data URI, with its size in pixels and what it shows.

    Raises:
        UserError: the file is no picture.
    """
    content = BytesIO()
    try:
        with Image.open(path, formats=["PNG"]) as image:
            flat = Image.new("RGB", image.size, "white")
            flat.paste(image.convert("RGB"), mask=image.convert("RGBA").getchannel("A"))
    except Exception as error:  # a decoder raises whatever it likes
        raise UserError(f"{path} cannot be read as a PNG picture ({error}): remove it, or run its notebook again"
                        ) from error  # fmt: skip
    flat.quantize(COLORS, dither=Image.Dither.NONE).save(content, "png")
    encoded = base64.b64encode(content.getvalue()).decode()
    return {"shows": shows, "source": f"data:image/png;base64,{encoded}",
            "width": flat.width, "height": flat.height}


def glued(text: str) -> str:
    """The text with no line break before % and ±, nor around =."""
    return re.sub(r" (?=[%=±])|(?<=[=±]) ", "\N{NO-BREAK SPACE}", text)


def _shown(value: Any) -> Any:
    """What the template is given, without control characters; what it has made itself stays."""
    return printable(value) if type(value) is str else value


def _title_in(kind: str, title: str) -> str:
    return title.removesuffix(", released protocol") if kind == "released" else title  # its heading says so


def _under(title: str) -> str:
    """What a line is that stands under its method's own line, as in the `paper` profile; else empty."""
    _, _, what = title.rpartition(": ")
    return what if what in UNDER else ""


def _frame(path: Path) -> dict[str, Any]:
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a table ({' '.join(str(error).split())}): remove it, or run its "
                        f"notebook again") from error
    return {"title": _name(path), "columns": list(frame), "rows": frame.head(MOST_LINES).to_numpy().tolist(),
            "file": path.name, "more": max(0, len(frame) - MOST_LINES)}


def _name(path: Path) -> str:
    return path.stem.replace("_", " ").capitalize()
