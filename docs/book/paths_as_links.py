"""What the text names in backticks becomes a link, such as `notebooks/05_claims.ipynb`, `client.py` and `PFedMoAP`."""

import re
from collections import defaultdict

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

PLACES = ("", "notebooks/", "docs/", "pfedmoap/")  # where a file may lie whose name is in the text
PAGES = {"results/claims.toml": "claims"}
KINDS = {"class", "exception", "function", "method", "module"}
NAME = re.compile(r"[A-Z]\w+|\w+_\w+|\w+(\.\w+)+")  # one that stands for nothing but itself, unlike `client`


class PathsAsLinks(SphinxPostTransform):
    """Outside of links, headings, and signatures."""

    default_priority = 15

    def run(self, **_) -> None:
        here = self.env.current_document.docname
        for literal in list(self.document.findall(nodes.literal)):
            if isinstance(literal.parent, (nodes.reference, nodes.title)):
                continue
            page, anchor = self._target(literal.astext()) or (here, "")
            if page != here:
                literal.replace_self(make_refnode(self.app.builder, here, page, anchor, literal.deepcopy()))

    def _target(self, text: str) -> tuple[str, str] | None:
        """The page that a text names, and where in it."""
        for path in (place + text for place in PLACES):
            page = PAGES.get(path, re.sub(r"\.(md|ipynb)$", "", path))
            if page in self.env.found_docs and (page != text or "/" in text):
                return page, ""
        name = text.removesuffix("()")
        if text.endswith(".py"):
            path = text if text.startswith("pfedmoap/") else f"pfedmoap/{text}"
            name = re.sub(r"(/__init__)?\.py$", "", path).replace("/", ".")
        elif not NAME.fullmatch(name):
            return None
        found = self._known()[name]
        return next(iter(found)) if len(found) == 1 else None

    def _known(self) -> dict[str, set[tuple[str, str]]]:
        """Every ending of every name of the API -> where it is explained; several are ambiguous."""
        if not hasattr(self.env, "names_of_the_api"):
            known = defaultdict(set)
            for full, entry in self.env.get_domain("py").objects.items():
                parts = full.split(".") if entry.objtype in KINDS else []
                for start in range(len(parts)):
                    known[".".join(parts[start:])].add((entry.docname, entry.node_id))
            self.env.names_of_the_api = known
        return self.env.names_of_the_api


def setup(app: Sphinx) -> dict:
    app.add_post_transform(PathsAsLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
