"""How a table looks: HTML in a notebook; Markdown, LaTeX and CSV in files. What is in it is decided in `tables`."""

import html
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pfedmoap.system import printable, write_atomically

LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
         "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "λ": r"$\lambda$", "ε": r"$\varepsilon$",
         "×": r"$\times$", "α": r"$\alpha$"}

MARKDOWN = ("**", "**"), ("<ins>", "</ins>")  # before and after what is bold and underlined; code hosts strip <u>


@dataclass(frozen=True)
class Block:
    """Lines of a table under one heading: cells as text, and which of them are printed in bold or underlined.

    Attributes:
        bold: of the text's shape; of runs: better than every other line, by the test (`statistics.against_best`).
        underlined: of the text's shape; None: nowhere. Of runs: cannot be told from the best.
        kind: "run", "released", "controls", "classifiers", "tuned" and "diagnosis" were run here; "published" was not.
    """

    heading: str
    text: pd.DataFrame
    bold: pd.DataFrame
    kind: str = "run"
    underlined: pd.DataFrame | None = None

    def marked(self, text: pd.DataFrame, bold: tuple[str, str], underlined: tuple[str, str]) -> pd.DataFrame:
        """The text with what stands before and after a bold or an underlined cell."""
        text = text.where(~self.bold, bold[0] + text + bold[1])
        return text if self.underlined is None else text.where(~self.underlined, underlined[0] + text + underlined[1])


@dataclass(frozen=True, repr=False)
class Table:
    """A table as people read it; a notebook shows it as HTML.

    Attributes:
        caption: what was run, and what differs from the paper.
        blocks: its parts, one below the other.
    """

    caption: str
    blocks: tuple[Block, ...]

    def __repr__(self) -> str:
        return self.to_markdown()

    def _repr_html_(self) -> str:
        parts = [f"<p style='max-width: 60em'>{_html(self.caption)}</p>"]
        for block in self.blocks:
            text = block.marked(_named(block.text.map(_html), _html), ("<b>", "</b>"), ("<u>", "</u>"))
            parts.append(f"<p><b>{_html(block.heading)}</b></p>{text.to_html(escape=False, border=0)}")
        return "\n".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON, from which `page` builds the table where there are no records."""
        return {"caption": self.caption, "blocks": [
            {"kind": block.kind, "heading": block.heading, "columns": list(block.text), "rows": list(block.text.index),
             "cells": block.text.to_numpy().tolist(), "bold": block.bold.to_numpy().tolist(),
             "underlined": (block.bold & False if block.underlined is None else block.underlined).to_numpy().tolist()}
            for block in self.blocks]}

    def to_markdown(self) -> str:
        parts = [markdown(self.caption)]
        for block in self.blocks:
            text = block.marked(_named(block.text.map(markdown), markdown), *MARKDOWN)
            parts += [f"**{markdown(block.heading)}**", text.to_markdown(disable_numparse=True)]
        return "\n\n".join(parts) + "\n"

    def to_latex(self) -> str:
        """A booktabs tabular to be \\input where the caption, given as a comment, is written around it."""
        width = max(block.text.shape[1] for block in self.blocks) + 1
        lines = [f"% {' '.join(printable(self.caption).split())}", rf"\begin{{tabular}}{{l{'c' * (width - 1)}}}"]
        for number, block in enumerate(self.blocks):
            lines += [r"\midrule" if number else r"\toprule",
                      rf"\multicolumn{{{width}}}{{l}}{{\emph{{{latex(block.heading)}}}}} \\",
                      _latex_line("", map(latex, block.text.columns)), r"\midrule"]
            text = block.marked(block.text.map(latex), (r"\textbf{", "}"), (r"\underline{", "}"))
            lines += [_latex_line(latex(title), cells) for title, cells in text.iterrows()]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def write_frame(data: pd.DataFrame, folder: str | Path, name: str) -> Path:
    """Writes <name>.csv without the index, numbers with four decimals; returns its path."""
    path = Path(folder) / f"{name}.csv"
    write_atomically(path, data.to_csv(index=False, float_format="%.4f", lineterminator="\n").encode())
    return path


def latex(text: str) -> str:
    """Plain text with everything that LaTeX would take for a command escaped."""
    return "".join(LATEX.get(character, character) for character in " ".join(printable(text).splitlines()))


def markdown(text: str) -> str:
    """Plain text for a line or a table's cell: it makes no element of HTML, no link, no line and no column."""
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", " ".join(printable(text).splitlines()))
    return re.sub(r"\](?=[(\[:])", r"\]", text).replace("|", r"\|")


def _html(text: str) -> str:
    return html.escape(printable(text))


def _named(text: pd.DataFrame, escaped: Callable[[str], str]) -> pd.DataFrame:
    """The table with its headings and titles escaped."""
    return text.rename(index=escaped, columns=escaped)


def _latex_line(title: str, cells: Iterable[str]) -> str:
    return " & ".join([title, *cells]) + r" \\"
