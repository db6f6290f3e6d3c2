"""A model as an ONNX file."""

import contextlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import PreTrainedModel

from bertkernels.errors import InputError

from .program import INPUTS, check_model, dynamic_shapes, example_inputs, output_names, to_exported_program

OPSET = 20


def to_onnx(model: PreTrainedModel, path: str | os.PathLike, *, opset: int = OPSET, overwrite: bool = False) -> Path:
    """Writes the model, as `to_exported_program` makes it, to an ONNX file of standard operators.

    Inputs are input_ids, attention_mask and token_type_ids, int64 [batch, sequence] (for multiple choice
    [batch, choices, sequence]) of any sizes; outputs are named as the model's.

    Args:
        model: as `to_exported_program` takes it; the file gets its dtype.
        path: the file, such as model.onnx; its folder is made if need be. Written under another name first.
        opset: version of ONNX's operators, 18 or later.
        overwrite: replaces a file that is there.

    Returns:
        path.

    Raises:
        InputError: onnx or onnxscript is not installed; the file is there and not to be replaced; the model is none
            that can be exported.
    """
    path = Path(path)
    check_onnx_export(path, opset, overwrite)
    check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    exported = to_exported_program(model)
    with torch.no_grad():
        outputs = output_names(model, example_inputs(model))
    shapes = {
        name: {place: dim.__name__ for place, dim in dims.items()} for name, dims in dynamic_shapes(model).items()
    }
    with _quiet():
        program = torch.onnx.export(
            exported,
            (),
            dynamo=True,
            verbose=False,
            input_names=list(INPUTS),
            output_names=outputs,
            opset_version=opset,
            dynamic_shapes=shapes,
        )
        written = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            program.save(written, external_data=False)
            os.replace(written, path)
        finally:
            written.unlink(missing_ok=True)
    return path


def check_onnx_export(path: Path, opset: int = OPSET, overwrite: bool = False) -> None:
    """Raises InputError where a file cannot be written there or not at all."""
    lacking = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if lacking:
        raise InputError(f"ONNX files need {' and '.join(lacking)}: pip install 'bertkernels[onnx]'")
    if opset < 18:
        raise InputError(f"opset must be at least 18, got {opset}")
    if path.is_dir():
        raise InputError(f"{path} is a folder; the ONNX file's name is to be given, such as {path / 'model.onnx'}")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists; --overwrite replaces it")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on itself and on packages that have no part in this."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
