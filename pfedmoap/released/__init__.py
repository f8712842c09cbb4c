"""What the released code does differently from the paper: twelve named switches, and what each changes (SPEC 9).

The plain round loop knows none of them: `federation` subclasses it. `study` compares the two, switch by switch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["study"],
    submod_attrs={
        "federation": ["federation_for"],
        "optimizer": ["shared_rate"],
        "pairing": ["mispaired", "with_shuffled_names"],
        "prompt": ["word_prompt"],
        "protocol": ["DATA_SEED", "PAPER", "RELEASED", "SWITCHES", "Protocol", "parse_protocol", "released"],
    },
)
