"""How much each head matters: by the loss's gradient, by its weights, and by what masking it, or all others, costs.

Importances are [L, H] as `LayeredModel.head_mask()` counts heads, NaN where a block has none; larger is more important.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from bertkernels.errors import InputError

from .layers import LayeredModel
from .sublayers import Heads
from .surgery import Surgery

Score = Callable[[nn.Module], float]  # of a model as it is; larger is better
Head = tuple[int, int]  # number of a block, number of a head in it

GRADIENT, NORM, LEAVE_ONE_IN, LEAVE_ONE_OUT = "gradient", "norm", "leave_one_in", "leave_one_out"


@dataclass(frozen=True)
class HeadTable:
    """What several measures say of a model's heads.

    Attributes:
        kinds: "attention" or "convolution" by head, in the order of blocks.
        importance: [L, H] by measure.
    """

    kinds: Mapping[Head, str]
    importance: Mapping[str, torch.Tensor]

    def rows(self) -> list[dict[str, int | float | str]]:
        """One for each head: block, head, kind, then its importance by every measure."""
        return [
            {"block": block, "head": head, "kind": kind}
            | {measure: float(values[block, head]) for measure, values in self.importance.items()}
            for (block, head), kind in self.kinds.items()
        ]


def head_importance(
    layers: LayeredModel, batches: Iterable[Mapping[str, torch.Tensor]] | None = None, score: Score | None = None
) -> HeadTable:
    """All measures that can be taken of a model.

    Args:
        batches: with labels, for the gradient; None: without it.
        score: for leaving heads in and out; None: without these.
    """
    importance = {} if batches is None else {GRADIENT: importance_by_gradient(layers, batches)}
    importance[NORM] = importance_by_norm(layers)
    if score is not None:
        importance |= {LEAVE_ONE_IN: leave_one_in(layers, score), LEAVE_ONE_OUT: leave_one_out(layers, score)}
    kinds = {(block, head): _kind(layers.heads(block), head) for block, head in all_heads(layers)}
    return HeadTable(kinds, importance)


def importance_by_gradient(layers: LayeredModel, batches: Iterable[Mapping[str, torch.Tensor]]) -> torch.Tensor:
    """Mean of |∂loss / ∂mask| over batches, where the mask is all ones.

    Batches of one sequence make it the measure of Michel et al. 2019 (arXiv 1905.10650), whose mean is over sequences;
    in larger ones, gradients of other signs cancel. The model runs without dropout, and keeps its gradients.

    Args:
        batches: what the model takes, with labels.

    Raises:
        InputError: no batches, or one of which the model makes no loss.
    """
    model = layers.model
    total, count = torch.zeros_like(layers.head_mask()), 0
    training = model.training
    model.eval()
    try:
        for batch in batches:
            sequences = len(next(iter(batch.values())))
            mask = layers.head_mask().requires_grad_()
            with Surgery(model).mask_heads(mask), torch.enable_grad():
                loss = model(**batch).loss
                if loss is None:
                    raise InputError("the gradient needs a loss: the model makes none of these batches; give labels")
                (gradient,) = torch.autograd.grad(loss, mask)
            total += sequences * gradient.abs()
            count += sequences
    finally:
        model.train(training)
    if not count:
        raise InputError("the gradient needs at least one batch")
    return _where_heads_are(layers, total / count)


@torch.no_grad()
def importance_by_norm(layers: LayeredModel) -> torch.Tensor:
    """√ of the sum of squares of a head's weights: its rows of the linear layers that make it, its columns of the
    output layer. Heads of one kind can be compared, attention and convolution heads have other numbers of weights.

    The query of mixed attention, which both kinds use, counts as that of attention heads.
    """
    values = torch.zeros_like(layers.head_mask())
    for block in range(len(layers.blocks)):
        heads = layers.heads(block)
        if heads is None:
            continue
        for modules, count, first in (
            (heads.of_attention, heads.attention, 0),
            (heads.of_convolution, heads.convolution, heads.attention),
        ):
            squares = torch.zeros(count, device=values.device)
            for module in modules if count else ():
                if isinstance(module, nn.Linear):
                    squares += module.weight.float().square().sum(1).view(count, -1).sum(1).to(squares)
            values[block, first : first + count] = squares
        columns = heads.output.weight.float().square().sum(0).view(len(heads), heads.width)
        values[block, : len(heads)] += columns.sum(1).to(values)
    return _where_heads_are(layers, values.sqrt())


def leave_one_out(layers: LayeredModel, score: Score) -> torch.Tensor:
    """What the score loses where one head of the whole model is masked."""
    whole = score(layers.model)
    return _scored(layers, masked, lambda model: whole - score(model))


def leave_one_in(layers: LayeredModel, score: Score) -> torch.Tensor:
    """The score where one head of a block is left alone, all others of that block masked, other blocks whole."""
    return _scored(layers, left_alone, score)


def all_heads(layers: LayeredModel) -> Iterator[Head]:
    """Every head, block by block."""
    for block in range(len(layers.blocks)):
        for head in range(len(layers.heads(block) or ())):
            yield block, head


def masked(layers: LayeredModel, heads: Iterable[Head]) -> torch.Tensor:
    """The mask [L, H] that leaves out these heads and no others. Raises InputError for one that is not there."""
    mask = layers.head_mask()
    for head in heads:
        mask[_checked(layers, head)] = 0
    return mask


def left_alone(layers: LayeredModel, heads: Iterable[Head]) -> torch.Tensor:
    """The mask [L, H] that leaves out all other heads of the blocks that these are in."""
    mask = layers.head_mask()
    heads = [_checked(layers, head) for head in heads]
    for block, _ in heads:
        mask[block] = 0
    for head in heads:
        mask[head] = 1
    return mask


def ranked(importance: torch.Tensor) -> list[Head]:
    """All heads, the most important first; of equal ones the first block's, then the first."""
    found = [(int(block), int(head)) for block, head in (~importance.isnan()).nonzero()]
    return sorted(found, key=lambda head: -float(importance[head]))


def cumulative_masks(layers: LayeredModel, order: Sequence[Head]) -> Iterator[torch.Tensor]:
    """Masks [L, H] that leave out the first head of an order, the first two, and so on to all of them."""
    for count in range(1, len(order) + 1):
        yield masked(layers, order[:count])


def _scored(
    layers: LayeredModel, mask_of: Callable[[LayeredModel, list[Head]], torch.Tensor], score: Score
) -> torch.Tensor:
    values = torch.full_like(layers.head_mask(), math.nan)
    for head in all_heads(layers):
        with Surgery(layers.model).mask_heads(mask_of(layers, [head])):
            values[head] = score(layers.model)
    return values


def _where_heads_are(layers: LayeredModel, values: torch.Tensor) -> torch.Tensor:
    there = torch.zeros_like(values, dtype=torch.bool)
    for head in all_heads(layers):
        there[head] = True
    return values.masked_fill(~there, math.nan)


def _kind(heads: Heads, head: int) -> str:
    return "attention" if head < heads.attention else "convolution"


def _checked(layers: LayeredModel, head: Head) -> Head:
    block, number = head
    heads = layers.heads(block)
    if heads is None or not 0 <= number < len(heads):
        has = "none" if heads is None else f"0 to {len(heads) - 1}"
        raise InputError(f"head {number} of block {block} is not there: the block has {has}")
    return block, number
