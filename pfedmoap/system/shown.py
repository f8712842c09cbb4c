"""Text from files and from other people, fit to be shown."""

import re

# Control characters, line ends and tabs apart; what turns the direction of writing; halves of characters.
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object) -> str:
    r"""The text with everything that would steer a terminal, or reverse what follows, as an escape such as \x1b."""
    return STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def is_plain(text: str) -> bool:
    """Whether a text is one line that can be shown as it is."""
    return printable(text) == text and not {"\n", "\t"} & set(text)
