"""The successor of an encoder: a smaller one with the same head, and where its weights come from at first."""

from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from bertkernels.errors import InputError

from .configuration import EncoderConfig
from .encoder import Block, Encoder, EncoderModel
from .module_map import ModuleMap
from .plan import BlockSpec, Plan
from .replacing import ReplacingEncoder

FIRST, EVERY, FRESH = "first", "every", "fresh"
INITIALISATIONS = (FIRST, EVERY, FRESH)
# what sub-layers of one plan depend on beside it
_SIZES = ("hidden_size", "num_attention_heads", "intermediate_size", "conv_kernel_size", "head_ratio", "hidden_act")
_BLOCKS = "model.encoder."


@dataclass
class Successor:
    """A successor and its first weights: how many sub-layers were copied, and the kinds of those that were not."""

    model: PreTrainedModel
    copied: int = 0
    fresh: list[str] = field(default_factory=list)


def build_successor(
    predecessor: PreTrainedModel, module_map: ModuleMap, plan: Plan | None = None, init: str | PreTrainedModel = FIRST
) -> Successor:
    """A model of the predecessor's class with the plan's blocks and copies of all that is outside of them.

    Args:
        predecessor: one of our heads.
        module_map: of its blocks.
        plan: an equal number of blocks for each module; None: one a module, of the kind that `init` copies.
        init: "first": block i is a copy of the predecessor's block i, as in the released code. "every": of the last
            blocks of the module that it stands for. "fresh": random weights, by torch's generator. A model, with or
            without a head: its blocks.
            Sub-layers that the block to copy does not have, for the plan has another kind, are fresh.

    Raises:
        InputError: the plan doesn't fit the modules, or the given model the predecessor.
    """
    config = predecessor.config
    given = init if isinstance(init, PreTrainedModel) else None
    if given is not None:
        _check_sizes(config, given.config)
        blocks = _encoder(given).blocks
        if plan is not None and plan != given.config.parsed_plan:
            raise InputError(f'the given successor has the plan "{given.config.plan}", not "{plan}"')
        plan = given.config.parsed_plan
    before = config.parsed_plan.blocks
    if plan is None:
        plan = Plan(tuple(before[_source(module_map, len(module_map), i, init)] for i in range(len(module_map))))
    after = plan.blocks
    if len(after) % len(module_map):
        raise InputError(
            f'the plan "{plan}" has {_blocks(len(after))}, which {len(module_map)} modules can\'t share equally'
        )
    model = type(predecessor)(EncoderConfig(**config.to_dict() | {"plan": str(plan)}))
    inside = {name: weight for name, weight in model.state_dict().items() if name.startswith(_BLOCKS)}
    outside = {name: weight for name, weight in predecessor.state_dict().items() if not name.startswith(_BLOCKS)}
    model.load_state_dict(inside | outside)
    successor = Successor(model)
    for index, (block, spec) in enumerate(zip(model.model.encoder.blocks, after, strict=True)):
        if given is not None:
            _copy(successor, blocks[index], spec, block, spec)
            continue
        source = None if init == FRESH else _source(module_map, len(after), index, init)
        if source is None or source >= len(before):
            successor.fresh += [sublayer.kind for sublayer in spec.sublayers]
        else:
            _copy(successor, predecessor.model.encoder.blocks[source], before[source], block, spec)
    return successor


def replace_modules(successor: PreTrainedModel, predecessor: PreTrainedModel, module_map: ModuleMap) -> None:
    """Has the predecessor's blocks stand in the successor's encoder; see `ReplacingEncoder`."""
    encoder = ReplacingEncoder(successor.model.encoder, predecessor.model.encoder.blocks, module_map)
    successor.model.encoder = encoder.train(successor.training)


def _source(module_map: ModuleMap, blocks: int, index: int, init: str | PreTrainedModel) -> int | None:
    """The predecessor's block that the successor's block `index`, of so many, begins as; None: there is none."""
    if init == FIRST:
        return index
    share = blocks // len(module_map)
    module, place = divmod(index, share)
    inside = list(module_map.before(module))[-share:]
    return inside[place] if place < len(inside) else None


@torch.no_grad()
def _copy(successor: Successor, source: Block, there: BlockSpec, block: Block, here: BlockSpec) -> None:
    """Copies sub-layers of the same kind and options, the n-th of them to the n-th."""
    left = list(zip(there.sublayers, source.sublayers, strict=True))
    for spec, sublayer in zip(here.sublayers, block.sublayers, strict=True):
        found = next((pair for pair in left if pair[0] == spec), None)
        if found is None:
            successor.fresh.append(spec.kind)
            continue
        left.remove(found)
        sublayer.load_state_dict(found[1].state_dict())
        successor.copied += 1


def _encoder(model: PreTrainedModel) -> Encoder:
    return model.encoder if isinstance(model, EncoderModel) else model.model.encoder


def _check_sizes(config: EncoderConfig, given: EncoderConfig) -> None:
    different = [
        f"{name} {getattr(given, name)} instead of {getattr(config, name)}"
        for name in _SIZES
        if getattr(given, name) != getattr(config, name)
    ]
    if different:
        raise InputError(f"the given successor does not fit the predecessor: it has {', '.join(different)}")


def _blocks(count: int) -> str:
    return f"{count} block{'s' if count != 1 else ''}"
