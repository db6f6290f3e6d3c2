"""Parts of blocks removed: of one block, of the first or of the last so many."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bertkernels.analysis import changes
from bertkernels.analysis.experiments.block_ranges import WAYS, block_sets
from bertkernels.analysis.experiments.on_model import ModelExperiment
from bertkernels.analysis.experiments.sites import blocks_with, chosen_sites
from bertkernels.analysis.jobs import Trial


@dataclass
class RemoveArguments:
    """What is removed, and how."""

    sites: list[str] = field(
        default_factory=lambda: ["mlp", "self_attention_ff"],
        metadata={
            "help": "mlp and self_attention_ff: what a sub-layer adds to its residual connection; ffn and attention: "
            "whole sub-layers; encoder: whole blocks; …"
        },
    )
    modes: list[str] = field(
        default_factory=lambda: ["keep-norm"],
        metadata={
            "help": "keep-norm: the part adds nothing, its norms stay; skip: its norm goes too; zero: its weights are "
            "zeros; random: they are fresh, as in the released script."
        },
    )
    blocks: list[str] = field(
        default_factory=lambda: list(WAYS),
        metadata={"help": "single: of each block alone; forward: of the first so many; backward: of the last."},
    )
    remove_seed: int = field(default=0, metadata={"help": "Of random weights."})


class Remove(ModelExperiment):
    """The same blocks once, although several ways may come to them."""

    name = "remove"
    options: RemoveArguments

    def trials(self, lines: Sequence[dict]) -> list[Trial]:
        layered, options = self.subject.layered, self.options
        return [
            self._trial(site, mode, way, blocks)
            for site in chosen_sites(layered, options.sites)
            for mode in options.modes
            for way, blocks in block_sets(options.blocks, blocks_with(layered, site))
        ]

    def _trial(self, site: str, mode: str, way: str, blocks: list[int]) -> Trial:
        seed = self.options.remove_seed
        cut = tuple(changes.remove(block, site, mode, seed + block) for block in blocks)
        labels = {"site": site, "mode": mode, "way": way, "blocks": blocks}
        return Trial(f"remove {site} {mode} {way} {','.join(map(str, blocks))}", labels, cut)
