"""Images: data sets on disk and your own folders, how clients share them, and their features.

Features are computed once per weights, data and view, and kept on disk. `doctor` says what is wrong with a data set.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "cache": ["CachedTable", "cached_tables", "prune"],
        "cards": ["Card", "find_card"],
        "catalog": ["ON_DISK", "load_from_disk"],
        "doctor": ["Diagnosis", "diagnose"],
        "downloads": ["download"],
        "features": ["image_features"],
        "folders": ["FOLDERS"],
        "hub": ["HUB", "HubImages", "is_own", "load_from_hub"],
        "images": ["CIFAR", "ImageArray", "ImageFiles", "read_image", "to_rgb"],
        "imageset": ["ImageSet", "Split"],
        "partitions": ["PARTITIONS", "Partition", "partition", "refuse_unknown_partition", "suggested"],
        "sheets": ["contact_sheet", "write_contact_sheet"],
    },
)
