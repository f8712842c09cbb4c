"""The report of a profile, built from the files of its tables and figures: one HTML page, and Markdown."""

from pfedmoap.page.collected import Entry, collect
from pfedmoap.page.html import build
from pfedmoap.page.markdown import overview

__all__ = ["Entry", "build", "collect", "overview"]
