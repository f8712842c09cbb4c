"""Errors that a user can do something about: one sentence that names the remedy."""

import difflib
from collections.abc import Iterable, Mapping, Sequence


class PfedmoapError(Exception):
    """Something went wrong that one sentence can explain; the command line prints it without a traceback."""

    exit_code = 1


class UserError(PfedmoapError):
    """A setting, path or file that the user gave cannot be used; the message says what to do instead."""

    exit_code = 2


def require(owner: object, checks: Mapping[str, tuple[bool, str]], whose: str = "") -> None:
    """Raises a UserError for the first setting of an object that is not as it must be.

    Args:
        checks: name of a setting -> whether it is fine, and what it must be.
        whose: what stands before the setting's name in the message, such as "pfedmoap's ".
    """
    for name, (fine, wanted) in checks.items():
        if not fine:
            raise UserError(f"{whose}{name} must be {wanted}, not {getattr(owner, name)!r}.")


def recognise(name: str, known: Sequence[str], kind: str, titles: Mapping[str, str] = {}) -> str:
    """The known name that is obviously meant: case, spaces and punctuation apart, or by its title.

    Args:
        titles: title -> known name.

    Raises:
        UserError: none is; the closest is suggested.
    """
    plain = {_plain(title): meant for title, meant in titles.items()} | {_plain(each): each for each in known}
    if _plain(name) not in plain:
        refuse_unknown([name], known, kind)
    return plain[_plain(name)]


def refuse_unknown(names: Iterable[str], known: Sequence[str], kind: str) -> None:
    """Raises a UserError for the first name that is not known, suggesting the closest."""
    for name in names:
        if name not in known:
            plain = {_plain(each): each for each in known}
            close = difflib.get_close_matches(_plain(str(name)), list(plain), n=1)
            hint = f"did you mean {plain[close[0]]!r}?" if close else f"known: {', '.join(known) or 'none'}."
            raise UserError(f"There is no {kind} {name!r}; {hint}")


def _plain(name: str) -> str:
    """A name without case, spaces and punctuation."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())
