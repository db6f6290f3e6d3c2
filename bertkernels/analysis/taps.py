"""Places inside a model where a tensor passes: there it can be seen and replaced, by hooks alone."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

INPUT, OUTPUT = "input", "output"


@dataclass(frozen=True)
class Tap:
    """What a module takes first, or what it returns.

    Sub-layers that run as one op look whether anybody has hooked into their parts, and then call those one by one.

    Attributes:
        module, side: whose input or output.
        width: channels D of the tensor […, D].
        element: which one of an output that is a tuple.
        channels: (first, last + 1) of the module's own, where the tensor is part of that; None: all.
    """

    module: nn.Module
    side: str
    width: int
    element: int = 0
    channels: tuple[int, int] | None = None

    def hook(self, function: Callable[[torch.Tensor], torch.Tensor | None], first: bool = False) -> RemovableHandle:
        """Calls function(tensor) whenever one passes; what it returns, unless None, goes on in its place.

        Several see what those before them left; `first` puts one before them all.
        """

        def on_input(_, arguments: tuple) -> tuple | None:
            new = function(self._cut(arguments[0]))
            return None if new is None else (self._put(arguments[0], new), *arguments[1:])

        def on_output(_, __, output: torch.Tensor | tuple) -> torch.Tensor | tuple | None:
            several = isinstance(output, tuple)
            whole = output[self.element] if several else output
            new = function(self._cut(whole))
            if new is None:
                return None
            new = self._put(whole, new)
            if not several:
                return new
            place = self.element % len(output)
            return (*output[:place], new, *output[place + 1 :])

        if self.side == INPUT:
            return self.module.register_forward_pre_hook(on_input, prepend=first)
        return self.module.register_forward_hook(on_output, prepend=first)

    def _cut(self, whole: torch.Tensor) -> torch.Tensor:
        return whole if self.channels is None else whole[..., slice(*self.channels)]

    def _put(self, whole: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        if self.channels is None:
            return new
        first, end = self.channels
        return torch.cat([whole[..., :first], new, whole[..., end:]], -1)
