"""From records to what people read: numbers, tables, captions, figures, and the page of a profile.

Nothing here runs anything.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["claims", "figures", "page", "statistics"],
    submod_attrs={
        "artefact": ["expected", "write_expected"],
        "captions": ["caption", "reading", "sentences", "title_of", "without_folders"],
        "crate": ["write_crate"],
        "layout": ["Block", "Table", "write_frame"],
        "numbers": ["cells", "clients", "compute", "matched", "records", "rounds", "summary", "traffic"],
        "tables": ["costs", "fingerprint", "table", "write_table"],
        "tuned": ["beside_tuned", "chosen_settings", "tuned_numbers", "tuned_table", "write_tuned"],
    },
)
