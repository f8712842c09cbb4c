"""Beyond the paper's test: classes, clients and domains that nobody trained on.

A `Question` says what is kept from training; `base_new`, `new_clients` and `unseen_domain` answer it after the last
round. `beyond.study` is behind `06_beyond_the_paper`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["base_new", "new_clients", "unseen_domain"],
    submod_attrs={
        "answers": ["H", "H_ALL", "answers", "harmonic_mean", "in_percent"],
        "questions": ["LOCAL", "QUESTIONS", "BaseNew", "NewClients", "Question", "Seen", "UnseenDomain", "question"],
    },
)
