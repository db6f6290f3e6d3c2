"""What takes the place of `Recording` on a machine without a GPU."""

import torch
from torch.utils._pytree import tree_leaves


class EagerRecording:
    """Behaves as a CUDA graph does to those around it: recording changes nothing, a replay runs the function on what
    its inputs hold by then, adds to gradients where they lie, and writes results where they were."""

    made = 0

    def __init__(self, function, pool=None):
        type(self).made += 1
        self._function, self._parameters = function, []
        state = torch.get_rng_state()
        kept = [(x, x.grad, x.grad.clone()) for x in _with_gradients()]
        self.results = function()
        for x, gradient, value in kept:
            assert x.grad is gradient, "a graph adds to gradients that are there; it can't bring new ones"
            gradient.copy_(value)
        torch.set_rng_state(state)

    def replay(self):
        for kept, new in zip(tree_leaves(self.results), tree_leaves(self._function()), strict=True):
            if isinstance(kept, torch.Tensor):
                kept.copy_(new)

    @staticmethod
    def new_pool():
        return None

    @staticmethod
    def warm_up(function):
        return function()


tracked = []  # parameters whose gradients a recording must leave as they are


def _with_gradients():
    return [x for x in tracked if x.grad is not None]
