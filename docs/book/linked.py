"""What belongs together in the book: a table, its notebook, its numbers as files, its figures, and its claims."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from executed import notebooks, profile_of

from pfedmoap.experiments import GRIDS
from pfedmoap.reports.captions import title_of
from pfedmoap.reports.claims import Claim, Verdict, read_ledger, read_verdicts
from pfedmoap.system import ROOT, figures_dir, results_dir

PROFILES = ("quick", "long")  # those with committed results
WRITTEN_BY = {"paper_and_code": "03_paper_and_code", "privacy": "04_what_prompts_tell", "beyond": "06_beyond_the_paper"}
ENDINGS = {".csv": "CSV, one line per cell", ".json": "JSON", ".tex": "LaTeX"}
JUDGED = "long"  # the profile that the verdicts rest on


@dataclass(frozen=True)
class Page:
    """A committed table, `results/<profile>/<name>.md`.

    Attributes:
        notebook: that wrote it; None: `pfedmoap tune` did.
    """

    name: str
    profile: str
    notebook: Path | None

    @property
    def path(self) -> Path:
        return results_dir(self.profile) / f"{self.name}.md"

    @property
    def title(self) -> str:
        """Such as "Table 1, profile quick"."""
        grid = GRIDS.get(self.name)
        name = title_of(grid(self.profile)) if grid else self.name.replace("_", " ").capitalize()
        return f"{name}, profile {self.profile}"

    @property
    def files(self) -> dict[str, Path]:
        """What is in them -> the tidy files of its numbers."""
        own = {what: self.path.with_suffix(ending) for ending, what in ENDINGS.items()}
        own["CSV of every client and seed"] = self.path.with_name(f"{self.name}_clients.csv")
        return {what: path for what, path in own.items() if path.is_file()}

    @property
    def figures(self) -> list[Path]:
        """The figures of its own name and, of a grid, those that stand beside it."""
        folder = figures_dir(self.profile)
        more = sorted(folder.glob(f"{self.name}_*.png")) if self.name in GRIDS else []
        return [path for path in [folder / f"{self.name}.png", *more] if path.is_file()]

    @property
    def claims(self) -> list[Claim]:
        """Those that rest on it, alone or among others."""
        return [claim for claim in read_ledger() if self.name in grids_of(claim)]

    def lines(self) -> Iterator[str]:
        """Its links in Markdown, as seen from the table."""
        up = "../.."
        if self.notebook:
            yield f"- Notebook: [{self.notebook.stem}]({up}/notebooks/{self.notebook.name})"
        else:
            yield f"- Made by `pfedmoap tune`: [how]({up}/docs/methods.md)"
        if self.files:
            yield "- Numbers: " + " · ".join(f"[{what}]({path.name})" for what, path in self.files.items())
        if self.claims:
            yield "- Claims: " + " · ".join(f"[{claim.id}]({up}/claims.md#claim-{claim.id})" for claim in self.claims)
        for profile in PROFILES:
            if profile != self.profile and (results_dir(profile) / self.path.name).is_file():
                yield f"- The same in profile [{profile}](../{profile}/{self.path.name})"


def grids_of(claim: Claim) -> list[str]:
    """The tables and figures that a claim rests on."""
    return [claim.given["grid"]] if "grid" in claim.given else list(claim.given.get("grids", ()))


def pages() -> list[Page]:
    """Every committed table, in the paper's order, then the other notebooks'."""
    order = [*GRIDS, *WRITTEN_BY, "tuned"]
    found = [Page(path.stem, profile, _writer(path.stem)) for profile in PROFILES
             for path in sorted(results_dir(profile).glob("*.md")) if path.name != "README.md"]
    return sorted(found, key=lambda page: (PROFILES.index(page.profile), next(
        number for number, name in enumerate(order) if page.name == name or page.name.startswith(f"{name}_"))))


def of_notebook(notebook: Path) -> list[Page]:
    """The tables that a notebook wrote in the profile that it is shown in."""
    return [page for page in pages() if page.notebook == notebook and page.profile == profile_of(notebook)]


def claims() -> str:
    """A page of all claims, each with an anchor, its source, its tables and what `long` says of it."""
    verdicts = {verdict.id: verdict for verdict in read_verdicts(results_dir(JUDGED))}
    judged = f"`pfedmoap verify --profile {JUDGED}`"
    parts = ["# All claims", f"The ledger is [claims.toml](results/claims.toml). The verdicts are those of {judged}; "
                             "[claims and statistics](docs/claims.md) explains them."]
    for by, title in (("paper", "The paper's"), ("kit", "This kit's")):
        parts.append(f"## {title}")
        parts += [_claim(claim, verdicts.get(claim.id)) for claim in read_ledger() if claim.by == by]
    return "\n\n".join(parts) + "\n"


def _claim(claim: Claim, verdict: Verdict | None) -> str:
    tables = [f"[{title_of(GRIDS[name](JUDGED))}](results/{JUDGED}/{name}.md)" for name in grids_of(claim)]
    p = "" if verdict is None or verdict.p is None else f"; p = {verdict.p:.2g}"
    found = f"**{verdict.shown}**: {verdict.words}{p}" if verdict else f"`pfedmoap verify {claim.id}` judges it"
    lines = [f"- {found}", f"- Said in {claim.source}; judged as `{claim.kind}`"]
    lines += [f"- Rests on {', '.join(tables)}"] if tables else []
    return "\n\n".join([f"(claim-{claim.id})=\n### {claim.id}", claim.says, "\n".join(lines)])


def _writer(name: str) -> Path | None:
    """The notebook behind a table, by the beginning of its name."""
    start = next((notebook for prefix, notebook in WRITTEN_BY.items() if name.startswith(f"{prefix}_")), f"{name}_")
    return next((path for path in notebooks() if path.stem.startswith(start)), None)


def as_link(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()
