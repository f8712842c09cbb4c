"""The ledger of claims, the paper's and this kit's own, and what the committed results say of each.

`read_ledger` reads `results/claims.toml`, `judge` looks at the evidence, and nothing here runs anything.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "agreement": ["DIFFERENT", "EQUAL", "ROUNDING", "against", "tolerance"],
        "evidence": ["Evidence", "NotRun"],
        "ledger": ["LEDGER", "Claim", "read_ledger"],
        "verdicts": ["Verdict", "as_frame", "judge", "read_verdicts", "write_verdicts"],
    },
)
