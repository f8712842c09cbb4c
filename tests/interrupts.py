"""Processes that tests start and interrupt."""

import signal


def hearing_interrupts() -> None:
    """For `preexec_fn`: shells start background jobs deaf to Ctrl-C, and their children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
