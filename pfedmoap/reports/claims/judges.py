"""The kinds of claims: each a function of the evidence and of what an entry of the ledger gives besides."""

from collections.abc import Callable

from pfedmoap.reports.claims import accuracies, files, printed
from pfedmoap.reports.claims.findings import Finding

JUDGES: dict[str, Callable[..., Finding]] = {judge.__name__: judge for judge in (
    accuracies.ahead,
    accuracies.ahead_on_all,
    accuracies.contrast,
    accuracies.rises,
    accuracies.inner_optimum,
    accuracies.best_among,
    accuracies.near_best,
    files.cells,
    files.benchmark,
    files.test,
    files.agrees,
    files.same,
    printed.printed_ahead,
    printed.printed_contrast,
    printed.printed_best_among,
    printed.printed_rises,
    printed.printed_equal,
)}
