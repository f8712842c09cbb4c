"""Text from elsewhere: what would steer a terminal is written out, everything else stays."""

import pytest
from rich.console import Console

from pfedmoap.commands.console import Table, show_sections
from pfedmoap.commands.shared import say
from pfedmoap.system import is_plain, printable


@pytest.mark.parametrize(("text", "shown"), [
    ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"), ("\u202egpj.exe", r"\u202egpj.exe"), ("a\x00b", r"a\x00b"),
    ("\x9b31m", r"\x9b31m"), ("\udcff", r"\udcff"), ("a\rb", r"a\x0db".replace("x0d", "r"))])
def test_what_steers_is_written_out(text, shown):
    assert printable(text) == shown and not is_plain(text)


@pytest.mark.parametrize("text", ["", "Größe 83.1 ± 0.2 %", "λ = 0.5", "日本語", "😀", "a\N{NO-BREAK SPACE}b", "[b]\\"])
def test_everything_else_stays(text):
    assert printable(text) == text and is_plain(text)


def test_lines_and_tabs_can_be_shown_but_are_no_name():
    assert printable("a\n\tb") == "a\n\tb" and not is_plain("a\nb") and not is_plain("a\tb")


def test_the_command_line_says_and_tabulates_it(capsys):
    say("\x1b[2J")
    show_sections({"a": {"b": "\x1b[2J"}})
    table = Table("name")
    table.add_row("[/b]\x1b[2J")  # rich would take the first for markup
    Console().print(table)
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err and (out + err).count(r"\x1b[2J") == 3 and "[/b]" in out
