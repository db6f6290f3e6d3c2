"""Builds a model of ours around weights that are already there: every weight must be there, and nothing else."""

from collections.abc import Callable, Mapping

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from bertkernels.errors import InputError

_LISTED = 20  # names that an error quotes of each kind


def build_empty(model_class: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    """The model without memory for its weights (on the meta device)."""
    with torch.device("meta"):
        return model_class(config)


def weight_shapes(model: PreTrainedModel) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights that a checkpoint of `model` needs: of weights that are tied, one name."""
    tied = model.all_tied_weights_keys
    return {name: tuple(weight.shape) for name, weight in model.state_dict().items() if name not in tied}


def check_weights(
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
    source: str,
    foreign: Callable[[str], str] = str,
) -> None:
    """Raises InputError that lists every missing, unexpected and mis-shaped weight of `source`.

    `foreign` says how `source` calls a weight of ours.
    """
    problems = _listed("missing", [foreign(name) for name in expected if name not in found])
    problems += _listed("unexpected", [foreign(name) for name in found if name not in expected])
    problems += _listed(
        "mis-shaped",
        [
            f"{foreign(name)} {list(found[name])} instead of {list(shape)}"
            for name, shape in expected.items()
            if name in found and tuple(found[name]) != shape
        ],
    )
    if problems:
        raise InputError(f"the weights in {source} do not fit the model: {'; '.join(problems)}")


def _listed(what: str, names: list[str]) -> list[str]:
    return [f"{len(names)} {what} ({shorten(names)})"] if names else []


def shorten(names: list[str]) -> str:
    """All names, or the first of them and how many more."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def fill(model: PreTrainedModel, weights: Mapping[str, torch.Tensor]) -> PreTrainedModel:
    """Gives an empty model its weights, as they are (dtype included), ties what is tied; ready for inference."""
    model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    return model.eval()
