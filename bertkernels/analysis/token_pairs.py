"""From batches through an encoder to what goes into and comes out of its sites, real tokens alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from bertkernels.analysis.capture import Place
    from bertkernels.analysis.layers import LayeredModel


@dataclass(frozen=True)
class TokenPairs:
    """A batch at one site: x [N, Dx] and y [N, Dy] of its real tokens, sequence after sequence.

    lengths: int64 [B], the real tokens of each sequence; their sum is N.
    """

    x: torch.Tensor
    y: torch.Tensor
    lengths: torch.Tensor


def token_pairs(
    layered: LayeredModel, batches: Iterable[Mapping[str, torch.Tensor]], places: Collection[Place]
) -> Iterator[dict[Place, TokenPairs]]:
    """Runs the model on each batch, and yields what all `places` had. Padding never counts, whatever stands there.

    One forward pass serves all places; no gradients are kept, and dropout is off.

    Args:
        batches: the model's arguments; `attention_mask` [B, T] is 1 at real tokens, without it all are.
    """
    device = next(layered.model.parameters()).device
    for batch in batches:
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        captured = _run(layered, batch, places)
        pairs = {}
        for place, (x, y) in captured.items():
            mask = batch.get("attention_mask")
            real = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if mask is None else mask.bool()
            pairs[place] = TokenPairs(x[real], y[real], real.sum(1))
        yield pairs


@torch.no_grad()
def _run(layered: LayeredModel, batch: dict[str, torch.Tensor], places: Collection[Place]) -> dict:
    modes = [(module, module.training) for module in layered.model.modules()]
    layered.model.eval()
    try:
        with layered.capture(places) as captured:
            layered.model(**batch)
        return dict(captured)
    finally:
        for module, training in modes:
            module.training = training
