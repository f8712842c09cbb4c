"""What separates paper and released code, switch by switch: behind `03_paper_and_code`. The runs: `paper.switchboard`.
"""

from pfedmoap.paper_and_code.pattern import (
    accuracy_lines,
    chains,
    most_frequent_label,
    pairings,
    steps,
    verdict,
    with_domains,
)
from pfedmoap.paper_and_code.switches import accuracies, differences, idle, square, title
from pfedmoap.paper_and_code.tables import (
    accuracy_table,
    difference_table,
    order_table,
    origin_table,
    switch_table,
    write,
    write_differences,
)
from pfedmoap.paper_and_code.words import answer, origins, reading

__all__ = [
    "accuracies", "accuracy_lines", "accuracy_table", "answer", "chains", "difference_table", "differences", "idle",
    "most_frequent_label", "order_table", "origin_table", "origins", "pairings", "reading", "square", "steps",
    "switch_table", "title", "verdict", "with_domains", "write", "write_differences",
]
