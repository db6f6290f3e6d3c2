"""The model to fine-tune: a pre-trained encoder of ours or of Hugging Face's, or one that starts from nothing."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

import bertkernels.models.auto  # noqa: F401  (makes our models known to the Auto classes)
from bertkernels.data.tokenizer import model_vocab_size
from bertkernels.errors import InputError
from bertkernels.models.electra import ElectraConfig
from bertkernels.models.presets import preset


def encoder_folder(name_or_path: str) -> str:
    """The folder of the encoder itself: of a pre-trained pair, the discriminator's."""
    config = Path(name_or_path, "config.json")
    if Path(name_or_path).is_dir() and not config.is_file():
        raise InputError(f"{name_or_path} holds no model: there is no config.json")
    if config.is_file():
        try:
            kind = json.loads(config.read_text(encoding="utf-8")).get("model_type")
        except (ValueError, AttributeError) as error:
            raise InputError(f"{config}: not a valid model configuration ({error})") from error
        if kind == ElectraConfig.model_type:
            return str(Path(name_or_path, "discriminator"))
    return name_or_path


def pretrained_model(
    auto_model: type, name_or_path: str, configure: Callable[[PreTrainedConfig], None], from_scratch: bool = False
) -> PreTrainedModel:
    """The encoder with a new head, or with the one it was fine-tuned with where that has the same name and size;
    `from_scratch` takes its configuration only.

    Args:
        auto_model: transformers' Auto class of models with that head.
        configure: sets in the configuration what the head depends on.

    Raises InputError where there is no model, or where weights of the encoder itself are missing: a model that starts
    from random weights unasked would train and mean nothing.
    """
    try:
        config = AutoConfig.from_pretrained(name_or_path)
    except (OSError, ValueError) as error:
        raise InputError(f"no model could be loaded from {name_or_path}: {_first_line(error)}") from error
    configure(config)
    if from_scratch:
        return auto_model.from_config(config)
    try:
        with _quiet():
            model, report = auto_model.from_pretrained(
                name_or_path, config=config, output_loading_info=True, ignore_mismatched_sizes=True
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"no model could be loaded from {name_or_path}: {_first_line(error)}") from error
    prefix = f"{model.base_model_prefix}."
    misshaped = sorted(name for name, *_ in report["mismatched_keys"] if name.startswith(prefix))
    if misshaped:
        raise InputError(f"{name_or_path} has {len(misshaped)} weights of another shape, such as {misshaped[0]}")
    missing = sorted(name for name in report["missing_keys"] if name.startswith(prefix) and ".pooler." not in name)
    if missing:
        raise InputError(f"{name_or_path} lacks {len(missing)} weights of the encoder, such as {missing[0]}")
    return model


def preset_model(
    auto_model: type,
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    configure: Callable[[PreTrainedConfig], None],
) -> PreTrainedModel:
    """A published encoder with random weights, this tokenizer's vocabulary and a new head, as `pretrained_model`."""
    config = preset(name, vocab_size=model_vocab_size(tokenizer), pad_token_id=tokenizer.pad_token_id)
    configure(config)
    return auto_model.from_config(config)


def finetuned_model(auto_model: type, name_or_path: str) -> PreTrainedModel:
    """A model with its trained head. Raises InputError where there is none, or where weights are missing."""
    try:
        with _quiet():
            model, report = auto_model.from_pretrained(name_or_path, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"no model could be loaded from {name_or_path}: {_first_line(error)}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise InputError(f"{name_or_path} is not fine-tuned for this: it lacks {len(missing)} weights ({missing[0]} …)")
    return model


def check_length(model: PreTrainedModel, max_length: int) -> None:
    """Raises InputError where inputs may be longer than the model has positions."""
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is not None and max_length > limit:
        raise InputError(f"--max_seq_length {max_length} is above the model's max_position_embeddings ({limit})")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' report on heads that come and go; the encoder's weights are checked after loading."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
