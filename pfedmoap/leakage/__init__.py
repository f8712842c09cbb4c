"""What shared prompts tell about their clients: decoding, class ownership, membership, with and without privacy.

Behind `04_what_prompts_tell`. The adversary is honest but curious: the server, or a client that is lent prompts.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["readings"],
    submod_attrs={
        "auditing": ["Audit", "audit"],
        "figures": ["exposure", "owned_classes", "roc"],
        "study": ["SHADOWS", "audit_all", "grids", "here"],
        "tables": ["decoding_table", "dp_table", "membership_table", "others_table", "ownership_table", "write"],
    },
)
