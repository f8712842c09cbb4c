"""The report of a profile, built from the files of its tables and figures: one HTML page, and Markdown."""

from pfedmoap.reports.page.collected import Entry, collect
from pfedmoap.reports.page.html import build
from pfedmoap.reports.page.markdown import overview

__all__ = ["Entry", "build", "collect", "overview"]
