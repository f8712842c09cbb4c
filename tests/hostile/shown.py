"""Names and numbers that reach a reader: the page, Markdown, LaTeX, the terminal, and a notebook's parameters."""

import json
import re
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import base as bases
import nbformat
from bench import CANARY, STEERING, Hostile, command, payload
from bytes_and_json import changed, other_documents, spoiled_values, write

NAMES = ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</td></table><h1>owned", '" onclick="alert(1)',
         "<svg/onload=alert(1)>", "&lt;script&gt;", "{{ 7*7 }}", "{% include '/etc/passwd' %}", "javascript:alert(1)",
         "<a href='javascript:alert(1)'>x</a>", "<style>*{display:none}</style>", "<!-- ", "\x1b[2J\x1b]0;owned\x07",
         "\u202egpj.exe", "a\x00b", "\x9b31m")  # fmt: skip
MARKDOWN = (
    "[x](javascript:alert(1))",
    "![x](http://localhost:1/x.png)",
    "a | b | c",
    "a\n\n# owned",
    "`x`",
    "**x**",
    "<details open ontoggle=alert(1)>",
    "[^1]: x",
    "http://localhost:1/",
)
LATEX = ("\\input{/etc/passwd}", "\\write18{touch x}", "\\end{tabular}", "a & b", "100 % sure", "$x$", "x_y^z", "#1",
         "~", "\\\\", "{", "^^5cinput")  # fmt: skip
ALLOWED_SCRIPTS = 1  # the page's own


class _Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))


def _active(page: str) -> str | None:
    """What in a page would act, the page's own script apart, or load something."""
    parser = _Elements()
    parser.feed(page)
    scripts = sum(tag == "script" for tag, _ in parser.elements)
    if scripts > ALLOWED_SCRIPTS:
        return f"{scripts} scripts in the page"
    for tag, attributes in parser.elements:
        handlers = [name for name in attributes if name.startswith("on")]
        addresses = [value or "" for name, value in attributes.items() if name in ("href", "src", "action", "data")]
        if handlers or tag in ("iframe", "object", "embed", "base", "form", "svg"):
            return f"<{tag}> with {handlers} in the page"
        if any(not re.match(r"#|data:(image/png;base64,|,$)", address) for address in addresses):
            return f"<{tag}> leads elsewhere"
    if sum(tag == "style" for tag, _ in parser.elements) > 1:
        return "a second style sheet"
    return None


def pages(base: bases.Base) -> Iterator[Hostile]:
    """What a results folder holds that another has written: it reaches `report.html` and README.md."""
    from pfedmoap.system.paths import figures_dir, results_dir

    table = json.loads((results_dir("quick") / "table1.json").read_text())
    verdicts = (
        json.loads((results_dir("quick") / "claims.json").read_text())
        if (results_dir("quick") / "claims.json").is_file()
        else []
    )
    act = command("report", "--profile", "quick", "--results", "{}", "--figures", "{}")

    def shown(folder: Path, printed: str) -> str | None:
        page, text = (folder / "report.html").read_text(), (folder / "README.md").read_text()
        return (
            _active(page)
            or _markdown(text)
            or ("a control character in the page" if STEERING.search(page + text) else None)
        )

    def put(name: str, content: bytes, folder: Path) -> None:
        write(folder / name, content)

    for name in (*NAMES, *MARKDOWN, *LATEX):
        title = f"{name!a}"[:50]
        spoilt = changed(table, ("table", "caption"), name)
        spoilt["reading"], spoilt["data"], spoilt["machines"] = [name], [name], [name]
        block = spoilt["table"]["blocks"][0]
        block["heading"], block["columns"][0], block["rows"][0] = name, name, name
        block["cells"][0][0] = name
        yield Hostile(
            "page", f"a table of {title}", partial(put, "table1.json", json.dumps(spoilt).encode()), act, shown
        )
        frame = f'"{name}","b"\n"{name}","{name}"\n'.replace("\x00", "\\0")
        yield Hostile("page", f"a CSV file of {title}", partial(put, "others.csv", frame.encode()), act, shown)
        if "/" not in name and "\x00" not in name:
            yield Hostile("page", f"a CSV file called {title}", partial(put, f"{name}.csv", b"a,b\n1,2\n"), act, shown)
    for name, content in [*other_documents()]:
        yield Hostile("page", f"numbers that are {name}", partial(put, "table1.json", content), act, shown)
        if verdicts:
            yield Hostile("page", f"verdicts that are {name}", partial(put, "claims.json", content), act, shown)
    for name, document in spoiled_values(
        table, 40, seed=3, among=("table", "reading", "seeds", "seconds_by_run", "runs")
    ):
        yield Hostile(
            "page", f"numbers where {name}", partial(put, "table1.json", json.dumps(document).encode()), act, shown
        )
    for name, document in spoiled_values(verdicts[:2], 12, seed=4):
        yield Hostile(
            "page", f"verdicts where {name}", partial(put, "claims.json", json.dumps(document).encode()), act, shown
        )
    for name, content in (
        ("empty", b""),
        ("a zero byte", b"a\x00b\n1\n"),
        ("a long line", b"a,b\n" + b"1" * 200_000),
        ("another row length", b"a,b\n1,2,3\n"),
        ("Latin-1", "a\nGröße\n".encode("latin-1")),
        ("an open quote", b'a\n"x'),
        ("UTF-16", "a\nb\n".encode("utf-16")),
    ):
        yield Hostile("page", f"a CSV file: {name}", partial(put, "others.csv", content), act, shown)
    picture = next(figures_dir("quick").glob("*.png")).read_bytes()
    for name, content in (("no picture", b"<svg onload=alert(1)>"), ("cut off", picture[:500]), ("empty", b"")):
        yield Hostile("page", f"a figure: {name}", partial(put, "others.png", content), act, shown)


def _markdown(text: str) -> str | None:
    """What in README.md would act, load something, or is more than a table's cell."""
    from markdown_it import MarkdownIt

    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    parser = _Elements()
    parser.feed(page)
    for tag, attributes in parser.elements:
        if tag in ("script", "img", "style", "svg", "iframe", "details") or any(
            name.startswith("on") for name in attributes
        ):
            return f"<{tag}> in README.md"
        if re.match(r"(javascript|http):", attributes.get("href") or ""):
            return "a link elsewhere in README.md"
    headings = re.findall(r"<h1>", page)
    return "a heading more in README.md" if len(headings) != 1 else None


def tables(base: bases.Base) -> Iterator[Hostile]:
    """Class and method names in what is written for papers: LaTeX, Markdown, HTML."""

    def act(name: str, kind: str, folder: Path) -> str:
        import pandas as pd

        from pfedmoap.reports.layout import Block, Table

        text = pd.DataFrame({name: [name, "1"]}, index=[name, "b"])
        made = Table(name, (Block(name, text, text.eq("1")),))
        return {"latex": made.to_latex, "markdown": made.to_markdown, "html": made._repr_html_}[kind]()

    for name in (*NAMES, *MARKDOWN, *LATEX):
        title = f"{name!a}"[:50]
        yield Hostile("class name", f"LaTeX: {title}", lambda folder: None, partial(act, name, "latex"), _plain_latex)
        yield Hostile(
            "class name",
            f"HTML: {title}",
            lambda folder: None,
            partial(act, name, "html"),
            lambda folder, printed: _active(printed),
        )
        yield Hostile(
            "class name",
            f"Markdown: {title}",
            lambda folder: None,
            partial(act, name, "markdown"),
            lambda folder, printed: _markdown("# Results\n\n" + printed),
        )


def _plain_latex(folder: Path, printed: str) -> str | None:
    """The structure of a table without hostile names, whatever the names."""
    known = {
        "begin",
        "end",
        "toprule",
        "midrule",
        "bottomrule",
        "multicolumn",
        "emph",
        "textbf",
        "underline",
        "pm",
        "lambda",
        "varepsilon",
        "times",
        "alpha",
        "textbackslash",
        "textasciitilde",
        "textasciicircum",
    }
    lines = [line for line in printed.splitlines() if not line.startswith("%")]
    body = "\n".join(lines)
    plain = re.sub(r"\\(.)", lambda found: "" if not found[1].isalpha() else found[0], body.replace("\\\\", " "))
    commands = set(re.findall(r"\\([A-Za-z]+)", plain)) - known
    if commands:
        return f"LaTeX would execute {sorted(commands)}"
    if plain.count("{") != plain.count("}") or body.count(r"\end{tabular}") != 1:
        return "braces that do not match"
    if any(
        line.count("&") - line.count(r"\&") != 1 for line in lines if line.endswith(r"\\") and "multicolumn" not in line
    ):
        return "a column more"
    if re.search(r"(?<!\\)[%#]", plain) or "^^" in plain:
        return "a comment or parameter in LaTeX"
    return None


def parameters(base: bases.Base) -> Iterator[Hostile]:
    """Values of `-p`: whatever they hold, they are values, up to the notebook's own first cells."""

    def code(folder: Path) -> list[str]:
        shell = payload(folder)
        canary = folder.parent / CANARY
        return [f"__import__('os').system('{shell}')", f"'; import os; os.system('{shell}'); '", f'"; !{shell}; "',
                f"!{shell}", f"%system {shell}", f"$({shell})", f"`{shell}`", f"x\nimport os; os.system('{shell}')",
                f"{{open('{canary}', 'w')}}", f"[open('{canary}','w') for _ in (1,)]",
                f"exec(\"open('{canary}','w')\")",
                f"lambda: open('{canary}', 'w')", f"*__import__('os').system('{shell}')",
                f"\\'; open('{canary}','w') #",
                f"'''; open('{canary}','w'); '''"]  # fmt: skip

    for name in ("seeds", "methods", "settings", "weights", "jobs", "device", "data_root"):
        for number, shown in enumerate(code(Path("x/y"))):

            def coded(folder: Path, name: str = name, number: int = number) -> str:
                return _begun({name: code(folder)[number]}, folder)

            yield Hostile("-p", f"{name}: {shown!a}"[:70], lambda folder: None, coded, _as_given)
    for name, value in (("profile", "../../secret"), ("__class__", "1"), ("seeds", "9" * 5000), ("seeds", "[" * 10_000),
                        ("seeds", "("), ("jobs", "-1"), ("jobs", "1e400"), ("jobs", "0x10"), ("jobs", "None"),
                        ("", "x"), ("seeds", "\x1b[2J"), ("a b", "1"), ("import os", "1"), ("seeds", "1,1,x"),
                        ("settings", "rounds=__import__('os')"), ("settings", "rounds=10**10**10"),
                        ("settings", "__class__=1"), ("settings", "rounds=1e400"), ("settings", "rounds=[" * 9999),
                        ("methods", "zero_shot,../x"), ("methods", "<b>"), ("methods", "*")):  # fmt: skip
        yield Hostile("-p", f"{name}={value!a}"[:60], lambda folder: None, partial(_begun, {name: value}), _as_given)
    texts = ["'; open('x', 'w') #", '"""', "\\", "\\'", "\n!touch x", "{x}", "'''\nimport os", "\u2028import os", "#",
             "\\N{BULLET}", "${HOME}", "\x1b[2J"]  # fmt: skip
    for text in texts:
        yield Hostile("-p", f"device: {text!a}", lambda folder: None, partial(_begun, {"device": text}), _as_given)
    for word in ("../secret", "/etc/passwd", "$(touch x)", "table1;ls", "\x1b[2J", "table1/../../secret", "*"):
        words = ("reproduce", "--profile", "smoke", "--results", "{}", "--figures", "{}", "--", word)
        yield Hostile("-p", f"a notebook called {word!a}", lambda folder: None, command(*words))


def _begun(values: dict[str, Any], folder: Path) -> str:
    """Table 1's notebook with these parameters, in the cell that papermill makes of them, up to its grid."""
    from papermill.translators import PythonTranslator

    from pfedmoap import batch

    (job,) = batch.plan(["table1"], "smoke", values | {"results": str(folder), "figures": str(folder)})
    cells = [cell for cell in nbformat.read(job.notebook, as_version=4).cells if cell.cell_type == "code"]
    last = next(number for number, cell in enumerate(cells) if cell.source.startswith("grid = "))
    names: dict[str, Any] = {}
    for source in (cells[0].source, PythonTranslator.codify(job.parameters),
                   *(cell.source for cell in cells[1 : last + 1])):
        exec(source, names)
    same = all(str(names[name]) == str(job.parameters[name]) for name in values if name in job.parameters)
    return "as it was given" if same else "another value"


def _as_given(folder: Path, printed: str) -> str | None:
    return None if printed.splitlines()[-1:] == ["as it was given"] else "another value"
