"""A model's parameters in groups for the optimizer: with and without weight decay, and by depth with own rates.

Source of the depths: ELECTRA (Clark et al., 2020), its released fine-tuning code.
"""

import re
from collections.abc import Collection

from torch import nn

_BLOCK = re.compile(r"(?:^|\.)(?:blocks|layers?)\.(\d+)\.")  # ours and Hugging Face's
_EMBEDDINGS = re.compile(r"(?:^|\.)embeddings(?:_project(?:ion)?)?\.")
_POOLER = re.compile(r"(?:^|\.)pooler\.")


def layer_depths(names: Collection[str]) -> dict[str, int]:
    """Depth of each parameter by its name, for n blocks: embeddings and their projection 0, block i (from 0) i + 1, the
    pooler n + 1, all that is outside of the encoder n + 2. A block is one depth, whatever sub-layers it has.

    Raises ValueError where no name is of a block.
    """
    blocks = {name: int(found[1]) for name in names if (found := _BLOCK.search(name))}
    if not blocks:
        raise ValueError("the model has no numbered blocks: rates by depth need some")
    count = 1 + max(blocks.values())
    depths = {}
    for name in names:
        if name in blocks:
            depths[name] = blocks[name] + 1
        elif _EMBEDDINGS.search(name):
            depths[name] = 0
        else:
            depths[name] = count + 1 if _POOLER.search(name) else count + 2
    return depths


def rate_multipliers(names: Collection[str], decay: float) -> dict[str, float]:
    """decay^(n + 2 − depth) for each parameter: 1 for the head, decay² for the last block, the least for embeddings."""
    depths = layer_depths(names)
    blocks = max(int(_BLOCK.search(name)[1]) for name in names if _BLOCK.search(name)) + 1
    return {name: decay ** (blocks + 2 - depth) for name, depth in depths.items()}


def parameter_groups(
    model: nn.Module,
    decayed: Collection[str],
    learning_rate: float,
    weight_decay: float,
    layerwise_decay: float | None = None,
) -> list[dict]:
    """Groups for a torch optimizer, the highest rate first.

    Args:
        decayed: names of the parameters that weight decay applies to.
        layerwise_decay: factor from one depth to the one below, see `rate_multipliers`; None: one rate for all.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    names = [name for name, _ in model.named_parameters()]
    multipliers = dict.fromkeys(names, 1.0) if layerwise_decay is None else rate_multipliers(names, layerwise_decay)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        groups.setdefault((multipliers[name], name in decayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": learning_rate * multiplier,
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (multiplier, decays), parameters in sorted(groups.items(), key=lambda item: item[0], reverse=True)
    ]
