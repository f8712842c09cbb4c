"""How Sphinx makes the book; `make_book.py` calls it. Nothing in it needs a network, here or at the reader's."""

import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from pfedmoap import __version__  # noqa: E402

project, release, language = "pfedmoap", __version__, "en"
author, copyright = "the pfedmoap authors", "the pfedmoap authors, MIT licence"
mathjax3_config = {"options": {"enableMenu": False}}  # else every formula is a stop of the Tab key
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx-mathjax-offline",
              "paths_as_links"]
exclude_patterns = ["files"]  # notebooks without outputs, to be taken away

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # what is shown was executed before: `executed.py`
nb_ipywidgets_js = {}  # sliders are shown as pictures; their scripts would come from a network
nb_merge_streams = True
suppress_warnings = ["ref.python"]  # of names that several classes have

default_role = "code"  # of single backticks in docstrings
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
OPTIONAL = ("flwr", "ray", "datasets", "flwr_datasets", "onnx", "onnxscript", "onnxruntime", "transformers")
autodoc_mock_imports = [name for name in OPTIONAL if not find_spec(name)]
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"pfedmoap {release}"
html_static_path = ["book.css"]
html_css_files = ["book.css"]
html_copy_source = False
html_show_sphinx = False
