"""Random cases that can be had again."""

import os
import random


def seeded() -> tuple[int, random.Random]:
    """The seed in BERTKERNELS_SEED or a new one, and random numbers from it; pytest shows it where a test fails."""
    seed = int(os.environ.get("BERTKERNELS_SEED") or random.SystemRandom().randrange(2**31))
    print(f"BERTKERNELS_SEED={seed}")
    return seed, random.Random(seed)
