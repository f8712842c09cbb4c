"""A small CLIP and data sets that come with the package, so that everything runs offline and within minutes.

The data sets are drawn from their names (`sets`), apart from scikit-learn's handwritten digits; the CLIP was
pre-trained on captioned drawings of the same world (`pretrain`), from draws that no data set uses. Both stand in for
the paper's models and photographs: they take the same path through the code, and are no evidence for the paper's
numbers.

Reading order: `distance` and `figures` (what can be drawn), `palette` (in which colours, textures, styles and views),
`scenes` and `drawing` (one picture), `sets`; then `captions`, `corpus`, `pretrain`, `tower` (the stored weights) and
`evaluate`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"example": ["write_example"], "sets": ["NAMES", "VALIDATION", "load"]}
)
