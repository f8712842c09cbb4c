"""What shared prompts tell about their clients: decoding, class ownership, membership, with and without privacy.

Behind `04_what_prompts_tell`. The adversary is honest but curious: the server, or a client that is lent prompts.
"""

from pfedmoap.leakage.audit import Audit, audit
from pfedmoap.leakage.figures import exposure, owned_classes, roc
from pfedmoap.leakage.study import SHADOWS, audit_all, grids, here
from pfedmoap.leakage.tables import (
    decoding_table,
    dp_table,
    membership_table,
    others_table,
    ownership_table,
    write,
)

__all__ = [
    "SHADOWS", "Audit", "audit", "audit_all", "decoding_table", "dp_table", "exposure", "grids", "here",
    "membership_table", "others_table", "owned_classes", "ownership_table", "roc", "write",
]
