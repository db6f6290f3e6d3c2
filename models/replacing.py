"""An encoder whose modules stand in for those of a larger one, draw by draw: BERT-of-Theseus.

Source: Xu et al. 2020 (arXiv 2002.02925) and its released code.
"""

from collections.abc import Sequence

from torch import nn

from bertkernels.errors import InputError

from .encoder import Block, Encoder
from .module_map import ModuleMap


class ReplacingEncoder(Encoder):
    """The successor's blocks, which are this module's own, and the predecessor's, which only stand beside them.

    `gates` says for each module whether the successor's blocks run (true) or the predecessor's; None: the successor's
    all do. The predecessor's blocks are in no list of parameters or weights: what is saved, loaded, evaluated and given
    to an optimizer is the successor, under the names that it has alone. They follow `train` and `eval`; to move them to
    a device is their owner's task.

    Args:
        successor: takes over its blocks.
        predecessor: blocks of the same width.
        module_map: of the predecessor's blocks; the successor has an equal number of blocks for each module.

    Raises InputError where the numbers of blocks don't fit the map.
    """

    def __init__(self, successor: Encoder, predecessor: Sequence[Block], module_map: ModuleMap):
        nn.Module.__init__(self)
        self.blocks = successor.blocks
        self.module_map = module_map
        self.gates: tuple[bool, ...] | None = None
        self._predecessor = list(predecessor)  # a plain list: not registered
        if len(self.blocks) % len(module_map):
            raise InputError(
                f"{len(module_map)} modules need successors of equally many blocks each, not {len(self.blocks)} in all"
            )
        if module_map.blocks != len(self._predecessor):
            raise InputError(f"the modules are of {module_map.blocks} blocks, of {len(self._predecessor)} given")

    @property
    def running(self) -> list[Block]:
        if self.gates is None:
            return list(self.blocks)
        blocks: list[Block] = []
        for module, replaced in enumerate(self.gates):
            blocks += self.module_blocks(module) if replaced else self.predecessor_blocks(module)
        return blocks

    def module_blocks(self, module: int) -> list[Block]:
        """The successor's blocks of a module."""
        return [self.blocks[index] for index in self.module_map.after(module, len(self.blocks))]

    def predecessor_blocks(self, module: int) -> list[Block]:
        """The predecessor's blocks of a module."""
        return [self._predecessor[index] for index in self.module_map.before(module)]

    def train(self, mode: bool = True) -> "ReplacingEncoder":
        super().train(mode)
        for block in self._predecessor:
            block.train(mode)
        return self
