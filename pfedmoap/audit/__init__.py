"""An audit of implementations of federated prompt learning, ours and anybody's: black-box checks on a tiny golden case.

`Adapter` is what an implementation is driven by, five functions; `MethodAdapter` drives ours. `audit` runs the checks.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "adapter": ["Adapter", "Claims", "Step"],
        "case": ["Case", "golden_case"],
        "checks": ["CHECKS", "audit", "table"],
        "findings": ["VERDICTS", "Finding"],
        "ours": ["MethodAdapter"],
        "targets": ["Target", "find_targets"],
    },
)
