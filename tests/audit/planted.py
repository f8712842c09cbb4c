"""All planted faults: `PLANTED` has each with the check that has to find it."""

import planted_data
import planted_training
from planting import PLANTED

__all__ = ["PLANTED", "planted_data", "planted_training"]
