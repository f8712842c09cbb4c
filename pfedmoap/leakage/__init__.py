"""What shared prompts tell about their clients: decoding, class ownership, membership, with and without privacy.

Behind `04_what_prompts_tell`. The adversary is honest but curious: the server, or a client that is lent prompts. Also
what clients have spent of their privacy, and who can do with a server that sees no more than sums.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["readings"],
    submod_attrs={
        "auditing": ["Audit", "audit"],
        "figures": ["exposure", "owned_classes", "roc"],
        "spending": ["ledger", "ledger_figure", "ledger_reading", "ledger_table", "private_runs", "write_ledger"],
        "study": ["SHADOWS", "audit_all", "grids", "here"],
        "sums": ["needs", "needs_table", "price_grid", "sums_reading", "sums_table", "write_sums"],
        "tables": ["decoding_table", "dp_table", "membership_table", "others_table", "ownership_table", "write"],
    },
)
