"""The model to export: from a folder of ours or of a Hugging Face ConvBERT, with the head its configuration names."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import transformers
from transformers import PreTrainedModel
from transformers.utils import logging

import bertkernels
from bertkernels.errors import InputError
from bertkernels.models.convert.ours import OUR_MODEL_TYPES, load_ours


def load_model(folder: Path, part: str | None = None, unpad: bool = False) -> PreTrainedModel:
    """The model in a folder, in evaluation mode; Hugging Face's is patched.

    Args:
        part: "discriminator", "generator" or "encoder", of a model of ours.
        unpad: of a Hugging Face model: padding takes no part.

    Raises:
        InputError: no such model, damaged files, missing weights, or options that are not for this model.
    """
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = content.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / 'config.json'}: not a valid model configuration ({error})") from error
    if kind in OUR_MODEL_TYPES:
        if unpad:
            raise InputError('--unpad is for Hugging Face models; ours say so themselves ("padding" in config.json)')
        return load_ours(folder, part).eval()
    if kind != "convbert":
        raise InputError(
            f"{folder}: models of type {kind!r} cannot be exported, only {', '.join(OUR_MODEL_TYPES)}, convbert"
        )
    if part is not None:
        raise InputError("--part is for models of ours; of a Hugging Face model the whole is exported")
    model = _hugging_face_model(folder, (content.get("architectures") or ["ConvBertModel"])[0])
    bertkernels.patch(model, unpad=unpad)
    return model.eval()


def _hugging_face_model(folder: Path, architecture: str) -> PreTrainedModel:
    kind = getattr(transformers, architecture, None) if architecture.startswith("ConvBert") else None
    if not (isinstance(kind, type) and issubclass(kind, PreTrainedModel)):
        raise InputError(f"{folder / 'config.json'} names the unknown architecture {architecture!r}")
    try:
        with _quiet():
            model, report = kind.from_pretrained(folder, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"no model could be loaded from {folder}: {str(error).strip().splitlines()[0]}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise InputError(f"{folder} lacks {len(missing)} weights of {architecture}, such as {missing[0]}")
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bar, and its report on missing weights: they are an error here."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
