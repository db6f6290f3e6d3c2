"""What students inherit from supernets of stacked feed-forward layers: slices of their weights.

A supernet here is an encoder whose `expression_ffn` are full: four layers of the whole width. `choose_genotype` has it
run as a student would, on the first layers and channels of each; `inherited_student` makes that student, of the same
outputs. `inherited_model` also goes to narrower and deeper encoders. (Supernets of several kinds of sub-layers are
`supernet.py`.)

Source: the released program of EfficientBERT (Dong et al. 2021), which keeps the first rows and columns of everything.
"""

import re

import torch
from torch import nn
from transformers import PreTrainedModel

from bertkernels.errors import InputError
from bertkernels.nn import Attention, DynamicConv, MixedAttention, PostNormStack

from .configuration import EncoderConfig
from .genotype import KIND, Genotype, genotype_plan, genotype_texts
from .kinds import find_kind
from .plan import BlockSpec, Plan
from .presets import preset

# what a preset leaves to the model that inherits
_KEPT = (
    "vocab_size",
    "max_position_embeddings",
    "type_vocab_size",
    "pad_token_id",
    "padding",
    "pooler",
    "id2label",
    "label2id",
    "problem_type",
)
_BLOCK = re.compile(r"(?P<before>(?:.*\.)?blocks)\.(?P<number>\d+)\.(?P<after>.*)")


def choose_genotype(model: PreTrainedModel, genotype: Genotype) -> None:
    """Has a supernet run as the student of this genotype from now on, by the weights that it would inherit.

    Layers that do not run get no gradients, channels that are not used get zeros: an optimizer's weight decay and
    moments still move the latter.

    Raises:
        InputError: another number of expressions than the supernet has stacks, or more layers than a stack has.
    """
    stacks = [module for module in model.modules() if isinstance(module, PostNormStack)]
    config = student_config(model.config, genotype)
    for stack, gene, text in zip(stacks, genotype, genotype_texts(genotype), strict=True):
        if gene.stack > len(stack):
            raise InputError(f"{text} stacks {gene.stack} layers, the supernet has {len(stack)} there")
        arguments = find_kind(KIND).arguments(config, **gene.function_options)
        stack.choose(gene.stack)
        for frame in stack:
            frame.function.choose(arguments["expression"], arguments["intermediate_size"])


def student_config(config: EncoderConfig, genotype: Genotype) -> EncoderConfig:
    """The configuration with this genotype in place of its plan's; InputError where their numbers differ."""
    stacks = sum(sublayer.kind == KIND for block in config.parsed_plan.blocks for sublayer in block.sublayers)
    if stacks != len(genotype):
        raise InputError(f"a genotype of {len(genotype)} expressions does not fit a plan with {stacks} {KIND}")
    genes = iter(genotype)
    blocks = tuple(
        BlockSpec(tuple(next(genes) if old.kind == KIND else old for old in block.sublayers))
        for block in config.parsed_plan.blocks
    )
    return EncoderConfig(**config.to_dict() | {"plan": str(Plan(blocks))})


def inherited_student(model: PreTrainedModel, genotype: Genotype) -> PreTrainedModel:
    """The student of a supernet as a model of its own, of the same class: it gives the same outputs to the bit."""
    return inherited_model(model, student_config(model.config, genotype))


def inherited_model(model: PreTrainedModel, config: EncoderConfig, head_boundaries: bool = True) -> PreTrainedModel:
    """A model of the same class whose weights are the first rows and columns of another's.

    Where it is a multiple as deep, every block of `model` becomes so many in a row.

    Args:
        config: of the new model, with the same kinds of sub-layers.
        head_boundaries: each narrower head is cut out of one head. False: the first rows of all heads together are
            kept, as the released code does it, which mixes channels of different heads.

    Raises:
        InputError: what is larger than in `model`, depths that are no multiples, heads that differ in number.
    """
    new = type(model)(config)
    repeat = _repeat(model.config, config)
    given = model.state_dict()
    sources = {name: _source_name(name, repeat) for name in new.state_dict()}
    _check_names(sources, given)
    channels = _head_channels(model, new, repeat) if head_boundaries else {}
    with torch.no_grad():
        for name, weight in new.state_dict(keep_vars=True).items():
            part = given[sources[name]]
            for axis, index in channels.get(name, {}).items():
                part = part.index_select(axis, index)
            if any(has < needs for has, needs in zip(part.shape, weight.shape, strict=True)):
                has, needs = list(part.shape), list(weight.shape)
                raise InputError(f"{name} cannot be inherited: it is {needs}, and there is {has} to take from")
            weight.copy_(part[tuple(slice(size) for size in weight.shape)])
    return new.train(model.training)


def preset_like(config: EncoderConfig, name: str, genotype: Genotype | None = None) -> EncoderConfig:
    """A preset's configuration with the vocabulary, tables, labels, pooler and padding of another model's.

    Args:
        genotype: in place of the preset's own, for as many blocks. Raises InputError where it does not fit these.
    """
    kept = {field: getattr(config, field) for field in _KEPT}
    sizes = preset(name, **kept)
    if genotype is None:
        return sizes
    return preset(name, **kept, plan=genotype_plan(genotype, sizes.num_hidden_layers))


def _repeat(old: EncoderConfig, new: EncoderConfig) -> int:
    if new.num_hidden_layers % old.num_hidden_layers:
        raise InputError(
            f"{new.num_hidden_layers} blocks cannot be inherited from {old.num_hidden_layers}: no multiple of them"
        )
    return new.num_hidden_layers // old.num_hidden_layers


def _source_name(name: str, repeat: int) -> str:
    found = _BLOCK.fullmatch(name)
    return f"{found['before']}.{int(found['number']) // repeat}.{found['after']}" if found else name


def _check_names(sources: dict[str, str], given: dict[str, torch.Tensor]) -> None:
    lacking = [name for name, source in sources.items() if source not in given]
    if lacking:
        raise InputError(
            f"{lacking[0]} and {len(lacking) - 1} more weights cannot be inherited: there are none like it"
        )


def _head_channels(old: nn.Module, new: nn.Module, repeat: int) -> dict[str, dict[int, torch.Tensor]]:
    """Of attention whose heads get narrower: which rows (axis 0) or columns (1) of old weights the new ones take."""
    modules = dict(old.named_modules())
    channels: dict[str, dict[int, torch.Tensor]] = {}
    for name, narrow in new.named_modules():
        if not isinstance(narrow, (Attention, MixedAttention, DynamicConv)):
            continue
        wide = modules[_source_name(f"{name}.", repeat)[:-1]]
        if narrow.heads != wide.heads:
            raise InputError(f"{name} has {narrow.heads} heads, which cannot be inherited from {wide.heads}")
        if narrow.head_size == wide.head_size:
            continue
        if not isinstance(narrow, Attention):
            raise InputError(f"{name}: narrower heads can be inherited by attention alone, not by its convolutions")
        kept = torch.arange(narrow.heads * wide.head_size).view(narrow.heads, -1)[:, : narrow.head_size].flatten()
        for role in ("query", "key", "value"):
            channels |= {f"{name}.{role}.{part}": {0: kept} for part in ("weight", "bias")}
        channels[f"{name}.output.weight"] = {1: kept}
    return channels
