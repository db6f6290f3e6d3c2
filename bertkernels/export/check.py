"""Whether an ONNX file computes what its model computes."""

import importlib.util
import os
from pathlib import Path

import torch
from transformers import PreTrainedModel

from bertkernels.errors import InputError

from .program import example_inputs

_SIZES = ((2, 2), (1, 16), (5, 37))  # batch and tokens, the latter at most what the model takes


def onnxruntime_is_installed() -> bool:
    return importlib.util.find_spec("onnxruntime") is not None


def largest_differences(model: PreTrainedModel, path: str | os.PathLike) -> dict[str, float]:
    """The largest absolute difference of each output between the file, run by onnxruntime on the CPU, and the model.

    Inputs are random, of several batch sizes and lengths, with padding; what stands at padding is compared too.

    Raises:
        InputError: onnxruntime is not installed.
    """
    if not onnxruntime_is_installed():
        raise InputError("checking ONNX files needs onnxruntime: pip install 'bertkernels[onnx]'")
    import onnxruntime

    session = onnxruntime.InferenceSession(Path(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    differences = dict.fromkeys(names, 0.0)
    training = model.training
    model.eval()
    try:
        for seed, (batch, tokens) in enumerate(_SIZES):
            inputs = example_inputs(model, batch, min(tokens, model.config.max_position_embeddings), seed)
            with torch.no_grad():
                expected = model(**inputs, return_dict=True)
            found = session.run(names, {name: x.cpu().numpy() for name, x in inputs.items()})
            for name, array in zip(names, found, strict=True):
                difference = (torch.from_numpy(array) - expected[name].cpu()).abs().max().item()
                differences[name] = max(differences[name], difference)
    finally:
        model.train(training)
    return differences
