"""A small CLIP and photographs that come with the package, so that everything runs offline and within minutes.

The data sets (`sets`) are photographs of Caltech101, some of them redrawn in other styles, and scikit-learn's
handwritten digits. The CLIP's image tower was trained on ImageNet, its text tower learned from WordNet's names where
among the image features things lie (`recipe`). It is not OpenAI's CLIP: numbers are the kit's own.

Reading order: `photographs`, `styles` and `sets`; then `image_tower`, `wordnet`, `concepts`, `phrases`, `text_tower`,
`recipe`, `weights` (the stored model) and `accuracy`. `copying` made the copy of Caltech101 that ships.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"example": ["write_example"], "sets": ["NAMES", "VALIDATION", "load"]}
)
