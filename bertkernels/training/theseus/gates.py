"""Which modules a forward pass replaces: a function of seed, step and micro-batch alone.

So all processes of a run replace the same modules, and a resumed run those that an unbroken one would have.
"""

import numpy as np


def draw_gates(seed: int, step: int, micro_batch: int, rate: float, modules: int) -> tuple[bool, ...]:
    """For each module whether its successor runs, with probability `rate` each and whatever the others do.

    Drawn once a forward pass, for the whole batch, as in the released code of Xu et al. 2020; anew for each of the
    batches that a step accumulates. Of two rates, the higher replaces whatever the lower does.
    """
    drawn = np.random.default_rng((seed, step, micro_batch)).random(modules)
    return tuple(bool(value) for value in drawn < rate)
