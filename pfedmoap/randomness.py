"""Randomness from (seed, purpose, round, client, ...), never from call order."""

import hashlib

import numpy as np


def generator(seed: int, purpose: str, *keys: int | str) -> np.random.Generator:
    """A generator that depends on nothing but its arguments.

    Args:
        seed: the run's seed.
        purpose: what the numbers are for ("batches", "gate", "partition", ...).
        *keys: round, client, epoch, image, ...: whatever tells two draws apart.
    """
    words = "/".join(str(word) for word in (seed, purpose, *keys))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(words.encode()).digest()[:16], "big"))
