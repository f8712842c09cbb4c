"""Clients that poison their prompt within the norm, by flipped labels or a backdoor, and what filters do about it.

The last part of `04_what_prompts_tell`. Here the adversary is no longer honest: some clients are, and conspire.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attacks": ["Attack"],
        "runs": ["Scenario", "poisoned"],
        "study": ["grid", "run_scenarios", "scenarios"],
        "triggers": ["Trigger", "stamped"],
        "views": ["poisoning_figure", "poisoning_reading", "poisoning_table", "write_poisoning"],
    },
)
