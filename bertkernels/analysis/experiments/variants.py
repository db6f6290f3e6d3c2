"""The paper's variants of the architecture, made of a trained model: what its weights do without what is cut.

(Models that are pre-trained as variants are plans of `bertkernels pretrain`; they are analysed like any other.)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bertkernels.analysis.experiments.block_ranges import BACKWARD, FORWARD, SINGLE, block_sets
from bertkernels.analysis.experiments.on_model import ModelExperiment
from bertkernels.analysis.jobs import Change, Trial
from bertkernels.errors import InputError

_ALL, _FEED_SAME = "all", "feed_same"
VARIANTS: dict[str, Callable[[int], Change]] = {
    "no_skip": lambda block: {"do": "residual", "block": block, "part": "all", "scale": 0},
    "no_skip_attention": lambda block: {"do": "residual", "block": block, "part": "attention", "scale": 0},
    "no_skip_ffn": lambda block: {"do": "residual", "block": block, "part": "ffn", "scale": 0},
    "relu": lambda block: {"do": "activation", "block": block, "function": "relu"},
    "gelu_attention": lambda block: {"do": "activation", "block": block, "function": "gelu", "part": "attention"},
    "linear_attention": lambda block: {"do": "linear_attention", "block": block},
    "norm_before": lambda block: {"do": "norm", "block": block, "placement": "before"},
    "norm_inside": lambda block: {"do": "norm", "block": block, "placement": "inside"},
    "no_norm": lambda block: {"do": "norm", "block": block, "placement": "none"},
    "no_ffn": lambda block: {"do": "no_ffn", "block": block},
}


@dataclass
class VariantsArguments:
    """Which variants, in which blocks."""

    variants: list[str] = field(
        default_factory=lambda: ["no_skip", "relu", "linear_attention", "no_ffn", _FEED_SAME],
        metadata={"help": f"Of {', '.join(VARIANTS)}, and feed_same, by which every block takes the embeddings."},
    )
    blocks: list[str] = field(
        default_factory=lambda: [SINGLE, _ALL],
        metadata={"help": "single: of each block alone; forward: of the first so many; backward: of the last; all."},
    )


class Variants(ModelExperiment):
    """Blocks that a variant is not made for, such as those without an FFN, are left out."""

    name = "variants"
    options: VariantsArguments

    def check(self) -> None:
        super().check()
        unknown = [name for name in self.options.variants if name not in (*VARIANTS, _FEED_SAME)]
        if unknown:
            raise InputError(f"--variants must be of {', '.join(VARIANTS)}, {_FEED_SAME}, not {unknown[0]!r}")

    def trials(self, lines: Sequence[dict]) -> list[Trial]:
        found = []
        for name in self.options.variants:
            if name == _FEED_SAME:
                found.append(Trial(_FEED_SAME, {"variant": name, "way": _ALL}, ({"do": _FEED_SAME},)))
                continue
            for way, blocks in self._blocks(name):
                labels = {"variant": name, "way": way, "blocks": blocks}
                made = tuple(VARIANTS[name](block) for block in blocks)
                found.append(Trial(f"{name} {way} {','.join(map(str, blocks))}", labels, made))
        return found

    def _blocks(self, name: str) -> list[tuple[str, list[int]]]:
        fit = self.subject.blocks_that_take(VARIANTS[name])
        if not fit:
            raise InputError(f"--variants {name}: no block of the model takes it")
        sets: list[tuple[str, list[int]]] = []
        for way in self.options.blocks:
            if way == _ALL:
                sets.append((way, fit))
            elif way in (SINGLE, FORWARD, BACKWARD):
                sets += block_sets([way], fit)
            else:
                raise InputError(f"--blocks are {SINGLE}, {FORWARD}, {BACKWARD} or {_ALL}, not {way!r}")
        return sets
