"""Errors that a user can do something about: one sentence that names the remedy."""


class PfedmoapError(Exception):
    """Something went wrong that one sentence can explain; the command line prints it without a traceback."""

    exit_code = 1


class UserError(PfedmoapError):
    """A setting, path or file that the user gave cannot be used; the message says what to do instead."""

    exit_code = 2
