"""TensorFlow checkpoints of ConvBERT, LV-BERT, ELECTRA and BERT as models of ours."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from .conversion import Conversion
from .load import build_empty, fill
from .tensorflow_checkpoint import TensorFlowCheckpoint
from .tensorflow_config import KnownSizes, read_known_sizes
from .tensorflow_plan import VariablePlan, plan_variables

_BERT_CONFIG = "bert_config.json"  # stands beside the checkpoint in Google's archives


def load_tensorflow(path: str | Path, **options) -> PreTrainedModel:
    """The model in a TensorFlow checkpoint; options as `plan_variables` takes them, and `config`, a file.

    Sources: the released ConvBERT, LV-BERT, ELECTRA and BERT programs. See `convert_tensorflow` for what may go wrong.
    """
    return convert_tensorflow(path, **options).model


def convert_tensorflow(path: str | Path, config: str | Path | None = None, **options) -> Conversion:
    """Reads a TensorFlow checkpoint.

    Args:
        path: prefix, `.index` file or folder of the checkpoint.
        config: JSON file that tells what shapes cannot, in a form that `read_known_sizes` reads; None: the
            `bert_config.json` beside the checkpoint, if there is one.
        options: as `plan_variables`.

    Raises:
        InputError: the checkpoint is missing or damaged; something about the architecture is told by nobody or told
            differently by two; variables are missing, unknown or of a wrong shape. The message lists them.
    """
    checkpoint = TensorFlowCheckpoint(path)
    beside = checkpoint.prefix.with_name(_BERT_CONFIG)
    if config is None and beside.is_file():
        config = beside
    known = read_known_sizes(config) if config is not None else KnownSizes()
    plan = plan_variables(checkpoint.shapes, known, source=str(checkpoint.prefix), **options)
    notes = [f"sizes that shapes do not tell are from {config}"] if config is not None else []
    left_out = [
        f"left out: {reason}, {len(left)} variable{'s' * (len(left) > 1)} such as {left[0]}"
        for reason, left in plan.left_out.items()
    ]
    return Conversion(convert_variables(plan, checkpoint), [*notes, *plan.notes, *left_out])


def convert_variables(plan: VariablePlan, arrays: Mapping[str, np.ndarray]) -> PreTrainedModel:
    """Builds the model of `plan` from the arrays of its variables."""
    weights = {}
    for ours, variable in plan.variables.items():
        array = variable.layout(arrays[variable.name])
        weights[ours] = torch.from_numpy(np.array(array, np.float32, order="C"))  # a copy: files are mapped read-only
    return fill(build_empty(plan.model_class, plan.config), weights)
