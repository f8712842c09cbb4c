"""What a server can do about uploads: filters that let some of them in, and a ledger of the privacy that they spent."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "filters": ["FILTERS", "Admitted", "Filter", "MedianFilter", "TrimmedFilter", "build_filter", "everything",
                    "take_in"],
        "ledger": ["composed_epsilon", "in_words", "spent"],
    },
)
