"""What the teaching notebook computes and draws: one function per step of the method, on a finished federation.

`steps` computes, `gate` looks inside the gate, `figures` draws, `mixing` has the sliders, `student` makes holes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["figures", "gate", "steps"],
    submod_attrs={
        "mixing": ["Mixing"],
        "student": ["student_version", "unsolved"],
    },
)
