"""What executing processes and their kernels import: once, then they are forked; each would spend seconds on it."""

PRELOADED = ("pfedmoap.batch.preloaded", "pfedmoap.batch.executing", "papermill", "nbclient", "ipykernel.kernelapp",
             "pandas", "seaborn", "scipy.stats", "sklearn.linear_model", "pfedmoap.experiments.runs",
             "pfedmoap.embedded.sets", "pfedmoap.reports.tables", "pfedmoap.reports.figures.grid")
