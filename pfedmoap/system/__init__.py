"""The machine: folders, files that are written whole or not at all, cores, and processes.

The lowest room: it knows nothing of torch, so that batch jobs and the command line start at once.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["cores", "paths"],
    submod_attrs={
        "files": ["PRIVATE_FILE", "private_folder", "read_json", "write_atomically"],
        "paths": ["NOTEBOOKS", "PROFILES", "PUBLISHED", "ROOT", "SHIPPED", "as_file_name", "cache_dir", "figures_dir",
                  "results_dir"],
        "processes": ["end_with_parent", "in_processes", "one_thread"],
        "shown": ["is_plain", "printable"],
        "stored": ["compute_missing"],
    },
)
