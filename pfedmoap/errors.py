"""Errors that a user can do something about: one sentence that names the remedy."""

import difflib
from collections.abc import Iterable, Sequence


class PfedmoapError(Exception):
    """Something went wrong that one sentence can explain; the command line prints it without a traceback."""

    exit_code = 1


class UserError(PfedmoapError):
    """A setting, path or file that the user gave cannot be used; the message says what to do instead."""

    exit_code = 2


def refuse_unknown(names: Iterable[str], known: Sequence[str], kind: str) -> None:
    """Raises a UserError for the first name that is not known, suggesting the closest."""
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}."
            raise UserError(f"There is no {kind} {name!r}; {hint}")
