"""Runs: what an experiment is, the profiles and grids behind every table, and running, storing and spreading them.

An `Experiment` is hashable and complete. `run` gives its record, `run_all` runs what a `Store` lacks.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "availability": ["first_reachable", "reachable"],
        "datasets": ["dataset_names", "download_dataset", "load_dataset", "validation_draw"],
        "diagnosis": ["examine", "published_zero_shot", "worth_examining"],
        "experiment": ["Experiment", "build_method"],
        "grid": ["Column", "Grid", "Row", "build_grid"],
        "paper_tables": [
            "GRIDS", "Methods", "Seeds", "figure3", "figure4", "table1", "table2", "table3", "table4", "table5",
            "table6", "table7", "table8",
        ],
        "personal": ["Personalised", "Prediction"],
        "preparation": ["Place", "Prepared", "clip_of", "dealt", "prepare"],
        "processor": ["instruction_set", "refuse_too_slow", "too_slow"],
        "profiles": ["PROFILES", "SEEDS", "STAND_INS", "from_profile", "parse_settings", "selection"],
        "published": ["published_cells"],
        "ray": ["Cluster", "run_on_ray"],
        "records": ["Record", "frame", "record_of", "resume"],
        "runs": ["reasons", "run", "run_all"],
        "store": ["Store"],
        "tensor_files": ["read_tensors", "write_tensors"],
        "suggestions": ["chosen_in_words", "poor_match", "suggested_settings"],
        "tuning": [
            "GROUPS", "TRIES", "VALIDATION_SEEDS", "Choices", "Try", "Tuning", "at_the_edge", "candidates", "choose",
            "plan_tuning", "run_tuning", "tunable", "tuned_grids", "write_tuning",
        ],
    },
)
