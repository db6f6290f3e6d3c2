"""A model as an exported program that needs nothing of this package."""

import inspect

import torch
from torch import nn
from transformers import PreTrainedModel

from bertkernels.errors import InputError
from bertkernels.ops.decompositions import decomposition_table

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_EXAMPLE = {"batch": 3, "choices": 2, "sequence": 7}  # sizes to trace with: of no meaning, but all different


def to_exported_program(model: PreTrainedModel) -> torch.export.ExportedProgram:
    """Traces the model's evaluation with `torch.export` and replaces this package's ops by torch's operations.

    Args:
        model: an encoder of ours with or without a head, or a ConvBERT of Hugging Face's (see `bertkernels.patch`),
            in any dtype and on any device, where the program will run. It is left as it is.

    Returns:
        A program called with input_ids, attention_mask and token_type_ids by name, int64 [B, T] each ([B, N, T] for
        multiple choice), for any B and any T up to max_position_embeddings (both from 2 for multiple choice); it
        returns a dict of the model's output tensors. Models that leave padding out do so with any mask, but compute it
        (see `bertkernels.nn.static_shapes`).

    Raises:
        InputError: the model does not take these three inputs.
    """
    check_model(model)
    inputs = example_inputs(model)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            named = _NamedOutputs(model, output_names(model, inputs))
            program = torch.export.export(named, (), inputs, dynamic_shapes=dynamic_shapes(model), strict=False)
            return program.run_decompositions(decomposition_table())
    finally:
        model.train(training)


def check_model(model: PreTrainedModel) -> None:
    """Raises InputError where the model cannot be exported."""
    taken = inspect.signature(model.forward).parameters
    missing = [name for name in INPUTS if name not in taken]
    needed = [
        name
        for name, parameter in taken.items()
        if parameter.default is parameter.empty and parameter.kind == parameter.POSITIONAL_OR_KEYWORD
    ]
    if missing or not set(needed) <= set(INPUTS):
        takes = ", ".join(needed or taken)
        raise InputError(
            f"{type(model).__name__} cannot be exported: it must run on {', '.join(INPUTS)} alone, it takes {takes}"
        )


def example_inputs(
    model: PreTrainedModel, batch: int = _EXAMPLE["batch"], tokens: int | None = None, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Random tokens, token types and lengths for the model, padded on the right, on its device."""
    tokens = tokens or min(_EXAMPLE["sequence"], _longest(model))
    shape = (batch, *((_EXAMPLE["choices"],) if _has_choices(model) else ()), tokens)
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, tokens + 1, shape[:-1], generator=generator)
    inputs = {
        "input_ids": torch.randint(model.config.vocab_size, shape, generator=generator),
        "attention_mask": (torch.arange(tokens) < lengths[..., None]).long(),
        "token_type_ids": torch.randint(model.config.type_vocab_size, shape, generator=generator),
    }
    return {name: x.to(model.device) for name, x in inputs.items()}


def output_names(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> list[str]:
    """The fields of the model's output that are single tensors."""
    output = model(**inputs, return_dict=True)
    return [name for name, value in output.items() if isinstance(value, torch.Tensor)]


def dynamic_shapes(model: PreTrainedModel) -> dict[str, dict[int, torch.export.Dim]]:
    """Which dimensions of the inputs may be of any size."""
    names = ("batch", "choices", "sequence") if _has_choices(model) else ("batch", "sequence")
    least = 2 if _has_choices(model) else 1  # where the sizes are multiplied torch's tracing tells 1 from others
    most = {"sequence": _longest(model)}
    dims = {place: torch.export.Dim(name, min=least, max=most.get(name)) for place, name in enumerate(names)}
    return {name: dims for name in INPUTS}


def _has_choices(model: PreTrainedModel) -> bool:
    return type(model).__name__.endswith("ForMultipleChoice")


def _longest(model: PreTrainedModel) -> int:
    return model.config.max_position_embeddings


class _NamedOutputs(nn.Module):
    """The model with plain inputs and outputs."""

    def __init__(self, model: PreTrainedModel, outputs: list[str]):
        super().__init__()
        self.model = model
        self.outputs = outputs

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        output = self.model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids, return_dict=True
        )
        return {name: output[name] for name in self.outputs}
