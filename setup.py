"""Has a wheel ship notebooks and what they need, which stand beside the package; all else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
SHIPPED = ("notebooks/*.ipynb", "results/claims.toml", "results/paper/*.csv", "results/benchmarks/*.csv",
           "results/long/*.csv", "results/long/*.json", "results/quick/tuned.csv")


class WithNotebooks(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:  # the package is used where it stands
            return
        target = Path(self.build_lib) / "pfedmoap" / "shipped"
        shutil.rmtree(target, ignore_errors=True)
        for path in (path for pattern in SHIPPED for path in sorted(ROOT.glob(pattern))):
            place = target / path.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, place)


setup(cmdclass={"build_py": WithNotebooks})
