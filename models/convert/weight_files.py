"""Reads the weight files of a model folder: safetensors, or PyTorch's, in one piece or in shards."""

import json
import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from bertkernels.errors import InputError

_NAMES = ("model.safetensors", "pytorch_model.bin")


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """All weights in `folder` by name, on the CPU and in their own dtype.

    PyTorch's files are read as plain tensors (`weights_only=True`): nothing in them is executed.

    Raises:
        InputError: no weights, a missing shard, or a file that cannot be read, by name.
    """
    for name in _NAMES:
        if (folder / name).is_file():
            return read_weight_file(folder / name)
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _read_shards(index)
    raise InputError(f"{folder} has no weights: none of {', '.join(_NAMES)}, whole or with an .index.json")


def _read_shards(index: Path) -> dict[str, torch.Tensor]:
    try:
        places = json.loads(index.read_text())["weight_map"]
        shards = sorted(set(places.values()))
    except (ValueError, KeyError, AttributeError, TypeError):
        raise InputError(f"{index} is damaged: no object weight_map of weight names to files") from None
    weights: dict[str, torch.Tensor] = {}
    for shard in shards:
        path = index.parent / Path(shard).name
        if not path.is_file():
            raise InputError(f"{path} is missing, which {index.name} names")
        weights |= read_weight_file(path)
    lost = sorted(set(places) - weights.keys())
    if lost:
        raise InputError(f"{index} names weights that its files do not have: {', '.join(lost)}")
    return weights


def read_weight_file(path: Path) -> dict[str, torch.Tensor]:
    """The weights in one file; of a training checkpoint its "state_dict". Raises InputError where it cannot be read."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(weight, torch.Tensor) for weight in content.values()):
        raise InputError(f"{path} is not a dictionary of weights")
    return content
