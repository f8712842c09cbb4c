"""Imported first where kernels are forked from, and nowhere else: matplotlib reads there how a kernel draws."""

import os

os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
