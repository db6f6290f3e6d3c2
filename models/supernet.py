"""Supernets: encoders whose slots hold every kind of sub-layer, run along one path, and what plans inherit from them.

An encoder whose configuration lists `supernet_kinds` is one, under any head and in an ELECTRA pair. Its plan fixes how
many slots there are, how they stand in blocks, and the path that runs unless another is set. A plan inherits by name:
what stands in slot i under a kind becomes the weights of sub-layer i of that kind.
"""

import re
from collections.abc import Iterator

import torch
from torch import nn
from transformers import PreTrainedModel

from bertkernels.errors import InputError

from .configuration import EncoderConfig
from .electra import ElectraConfig, encoder_config
from .encoder import Encoder
from .plan import BlockSpec, Plan, parse_plan
from .slot import Slot, slot_key

Path = tuple[str, ...]  # a kind for each slot

_IN_SLOT = re.compile(r"(?P<slot>(?:.*\.)?blocks\.\d+\.sublayers\.\d+)\.(?P<choice>[^.]+)(?:\.(?P<rest>.+))?")


def is_supernet(model: nn.Module) -> bool:
    """Whether anything in the model has slots."""
    return any(isinstance(module, Slot) for module in model.modules())


def path_of(config: EncoderConfig | ElectraConfig, plan: Plan | str) -> Path:
    """The kinds of a plan, slot by slot; how it groups them into blocks does not matter.

    Raises InputError where the supernet of this configuration has no weights for it.
    """
    encoder = _supernet_config(config)
    plan = parse_plan(plan) if isinstance(plan, str) else plan
    path = tuple(str(sublayer) for block in plan.blocks for sublayer in block.sublayers)
    slots = sum(len(block.sublayers) for block in encoder.parsed_plan.blocks)
    if len(path) != slots:
        raise InputError(f'plan "{plan}" has {len(path)} sub-layers, the supernet {slots} slots')
    for number, kind in enumerate(path, 1):
        if kind not in encoder.supernet_kinds:
            held = ", ".join(encoder.supernet_kinds)
            raise InputError(f'plan "{plan}": sub-layer {number} is {kind}, the supernet\'s slots hold {held}')
    return path


def plan_of(config: EncoderConfig | ElectraConfig, path: Path) -> Plan:
    """The plan of a path, in blocks as the supernet's own plan has them."""
    kinds = iter(path)
    blocks = []
    for block in encoder_config(config).parsed_plan.blocks:
        specs = (parse_plan(next(kinds)).blocks[0].sublayers[0] for _ in block.sublayers)
        blocks.append(BlockSpec(tuple(specs)))
    return Plan(tuple(blocks))


def set_path(model: PreTrainedModel, path: Path | Plan | str) -> None:
    """Has the model run along a path, or a plan, from now on.

    In an ELECTRA pair whose generator is a supernet too, that takes the same path, or the beginning of it where it has
    fewer slots. Raises InputError for a path that does not fit.
    """
    if not isinstance(path, tuple):
        path = path_of(model.config, path)
    for slots in _slots(model):
        for slot, kind in zip(slots, path, strict=False):
            slot.choose(kind)


def slot_names(model: nn.Module) -> list[str]:
    """Names of all weights in slots."""
    prefixes = tuple(
        f"{name}." for name, module in model.named_modules(remove_duplicate=False) if isinstance(module, Slot)
    )
    return [name for name in model.state_dict() if name.startswith(prefixes)]


def path_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of the chosen sub-layers of all slots."""
    return [
        parameter for slots in _slots(model) for slot in slots for parameter in slot[slot_key(slot.chosen)].parameters()
    ]


def plain_config(config: EncoderConfig | ElectraConfig, path: Path) -> EncoderConfig | ElectraConfig:
    """The configuration of the model without slots that runs as the supernet does along a path."""
    if isinstance(config, ElectraConfig):
        fields = config.to_dict()
        for name in ("generator", "discriminator"):
            network = getattr(config, name)
            if network is not None:
                slotted = network.supernet_kinds is not None
                fields[name] = (plain_config(network, path) if slotted else network).to_dict()
        return ElectraConfig(**fields)
    plan = str(plan_of(config, path))
    return EncoderConfig(**config.to_dict() | {"plan": plan, "supernet_kinds": None})


def inherited_weights(model: PreTrainedModel, path: Path) -> dict[str, torch.Tensor]:
    """The state dict of the model of `plain_config(model.config, path)`; the tensors are the supernet's own."""
    chosen = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, Encoder):
            slots = (f"{name}.{inner}" for inner, slot in module.named_modules() if isinstance(slot, Slot))
            chosen |= {slot: slot_key(kind) for slot, kind in zip(slots, path, strict=False)}
    weights = {}
    for name, weight in model.state_dict().items():
        found = _IN_SLOT.fullmatch(name)
        if found is None or found["slot"] not in chosen:
            weights[name] = weight
        elif found["choice"] == chosen[found["slot"]]:
            weights[f"{found['slot']}.{found['rest']}"] = weight
    return weights


def inherited_model(model: PreTrainedModel, path: Path | Plan | str) -> PreTrainedModel:
    """A model without slots, of the same class, with copies of the weights along a path: it gives the same outputs.

    Raises InputError for a path that does not fit.
    """
    if not isinstance(path, tuple):
        path = path_of(model.config, path)
    plain = type(model)(plain_config(model.config, path))
    plain.load_state_dict(inherited_weights(model, path))
    return plain.train(model.training)


def _supernet_config(config: EncoderConfig | ElectraConfig) -> EncoderConfig:
    encoder = encoder_config(config)
    if encoder.supernet_kinds is None:
        raise InputError(f'the model of the plan "{encoder.plan}" is no supernet: its slots hold one kind each')
    return encoder


def _slots(model: nn.Module) -> Iterator[list[Slot]]:
    """The slots of each encoder that has some."""
    for encoder in model.modules():
        if isinstance(encoder, Encoder):
            slots = [module for module in encoder.modules() if isinstance(module, Slot)]
            if slots:
                yield slots
