"""Where things lie: the project's folder, its results and figures, and the cache."""

import os
import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
IN_CLONE = (PACKAGE.parent / "pyproject.toml").is_file()  # else the package was installed from a wheel
ROOT = PACKAGE.parent if IN_CLONE else Path.cwd()
SHIPPED = ROOT if IN_CLONE else PACKAGE / "shipped"  # with notebooks and committed results; `setup.py` fills it
NOTEBOOKS = ROOT / "notebooks" if IN_CLONE else ROOT
PUBLISHED = SHIPPED / "results" / "paper"
PROFILES = ("smoke", "quick", "long", "paper")  # each with its own folder of results and of figures


def cache_dir() -> Path:
    """The folder of cached image features: $PFEDMOAP_CACHE, or .cache in the project."""
    return Path(os.environ.get("PFEDMOAP_CACHE") or ROOT / ".cache")


def as_file_name(text: str) -> str:
    """A name as part of a file's name: `hf:user/birds` becomes hf-user-birds; of a long path the end is kept."""
    return re.sub(r"[^\w.-]+", "-", text)[-60:]


def results_dir(profile: str) -> Path:
    return ROOT / "results" / profile


def figures_dir(profile: str) -> Path:
    return ROOT / "figures" / profile
