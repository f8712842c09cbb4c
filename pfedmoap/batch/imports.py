"""What executing processes and their kernels import: imported once and forked, as each would spend seconds on it again."""

PRELOADED = ("pfedmoap.batch.preloaded", "pfedmoap.batch.executing", "papermill", "nbclient", "ipykernel.kernelapp",
             "pandas", "seaborn", "scipy.stats", "sklearn.linear_model", "pfedmoap.experiments.runs",
             "pfedmoap.embedded.sets", "pfedmoap.reports.tables", "pfedmoap.reports.figures.grid")
