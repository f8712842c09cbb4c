"""Notebooks as batch jobs: papermill executes several at once, and one that fails, dies or hangs stops no other.

`plan` checks what is asked for; `execute` does it. Nothing here imports torch: the notebooks' kernels do.
"""

from pfedmoap.batch.jobs import Job, of_the_paper, plan
from pfedmoap.batch.scheduling import Outcome, execute, time_limit

__all__ = ["Job", "Outcome", "execute", "of_the_paper", "plan", "time_limit"]
