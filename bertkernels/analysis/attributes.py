"""Attributes of modules, set for a while."""

from contextlib import ExitStack

from torch import nn


def set_attribute(undo: ExitStack, owner: nn.Module, name: str, value: object) -> None:
    """owner.name = value, also where one of them is a module and the other is not."""
    before = getattr(owner, name)
    _assign(owner, name, value)
    undo.callback(_assign, owner, name, before)


def _assign(owner: nn.Module, name: str, value: object) -> None:
    if name in owner._modules and not isinstance(value, nn.Module):
        delattr(owner, name)
    setattr(owner, name, value)
