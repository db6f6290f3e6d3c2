"""Blocks in another order: for a while, or for good."""

from contextlib import ExitStack

from torch import nn

from bertkernels.models.encoder import EncoderModel
from bertkernels.models.plan import BlockSpec, Plan

from .attributes import set_attribute
from .layers import LayeredModel, Reordered, Row


def reorder(undo: ExitStack, layers: LayeredModel, order: list[int]) -> None:
    """Has order[0] run first, order[1] second, and so on."""
    blocks, start = layers.blocks, 0
    for row in layers.rows:
        end = start + len(row.blocks)
        own = blocks[start:end]
        set_attribute(undo, row.owner, row.name, Reordered([blocks[number] for number in order[start:end]], own))
        start = end


def settle(layers: LayeredModel) -> None:
    """Blocks in a new order become the model's own, and the plan of ours follows."""
    order, base = layers.order, layers.base
    if isinstance(base, EncoderModel) and base.config.supernet_kinds is None:
        base.config.plan = str(_reordered_plan(base.config.parsed_plan, layers.rows, order))
    for row in layers.rows:
        setattr(row.owner, row.name, nn.ModuleList(row.blocks))


def _reordered_plan(plan: Plan, rows: list[Row], order: list[int]) -> Plan:
    if len(rows) == 1:
        return Plan(tuple(plan.blocks[number] for number in order))
    sublayers = [sublayer for block in plan.blocks for sublayer in block.sublayers]
    moved = iter(order)
    return Plan(tuple(BlockSpec(tuple(sublayers[next(moved)] for _ in block.sublayers)) for block in plan.blocks))
