"""Notebooks as batch jobs: papermill executes several at once, and one that fails, dies or hangs stops no other.

`plan` checks what is asked for; `execute` does it. Nothing here imports torch: the notebooks' kernels do.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "jobs": ["Job", "default_parameters", "plan", "usual"],
        "scheduling": ["Outcome", "execute", "time_limit"],
        "unchanged": ["is_unchanged"],
    },
)
