"""What a judge says."""

from dataclasses import dataclass

NAN = float("nan")


@dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        holds: True, False, or None: the evidence does not decide.
        words: the finding in words, with its numbers.
        number, unit: what was measured.
        low, high: its 95 % interval, where there is one.
        p: of the test that decided, where there was one.
    """

    holds: bool | None
    words: str
    number: float = NAN
    unit: str = "points"
    low: float = NAN
    high: float = NAN
    p: float = NAN
