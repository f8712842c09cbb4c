"""The command line: `pfedmoap`, one file per command.

What takes seconds to import is imported where it is used, so that --help and --version answer at once.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "app": ["main"],
    },
)
