"""What separates paper and released code, switch by switch: behind `03_paper_and_code`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["figures"],
    submod_attrs={
        "differences": ["accuracies", "differences", "idle", "square", "title"],
        "pattern": ["accuracy_lines", "chains", "most_frequent_label", "pairings", "steps", "verdict", "with_domains"],
        "readings": ["answer", "origins", "reading"],
        "switchboard": ["switchboards"],
        "tables": [
            "accuracy_table", "difference_table", "order_table", "origin_table", "switch_table", "write",
            "write_differences",
        ],
    },
)
