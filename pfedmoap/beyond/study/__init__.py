"""All methods beyond the paper's test, side by side: behind `06_beyond_the_paper`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["figures", "readings"],
    submod_attrs={
        "grids": ["BASE_NEW", "NEW_CLIENTS", "UNSEEN", "grids", "here"],
        "numbers": ["curves", "gate_worth", "measures", "summary"],
        "tables": ["base_new_table", "new_clients_table", "unseen_table", "write"],
    },
)
