"""The verdicts on claims as one picture."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from pfedmoap.reports.claims import Verdict
from pfedmoap.reports.figures.canvas import canvas, legend

OF = {"holds": "#029e73", "fails": "#d55e00", "open": "#949494"}


def forest(verdicts: Sequence[Verdict]) -> Figure:
    """Every claim that was measured in points: its number and 95 % interval, by whether it holds.

    The axis is linear up to five points and logarithmic beyond, so that a point and fifty can be seen side by side.
    """
    shown = [one for one in verdicts if one.low is not None and one.here]
    with canvas(figsize=(8, 1.1 + 0.26 * max(len(shown), 1))) as (figure, axes):
        seen = set()
        for place, one in enumerate(shown):
            color, label = OF[one.here], None if one.here in seen else one.here
            axes.plot([one.low, one.high], [place, place], color=color, linewidth=2)
            axes.plot(one.number, place, "o", color=color, markersize=6, label=label)
            seen.add(one.here)
        axes.axvline(0, color="0.3", linewidth=1)
        axes.set_xscale("symlog", linthresh=5)
        ticks = (-50, -20, -5, -2, 0, 2, 5, 20, 50)
        axes.set_xticks(ticks, [f"{tick:+d}" if tick else "0" for tick in ticks])
        axes.minorticks_off()
        axes.set_yticks(range(len(shown)), [one.id for one in shown])
        axes.set(xlabel="points, with the 95 % interval", ylim=(max(len(shown), 1) - 0.5, -0.5))
        if seen:
            legend(figure, axes)
    return figure
