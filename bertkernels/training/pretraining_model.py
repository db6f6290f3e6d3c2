"""The model to pre-train: from a preset, a configuration file, or the weights of an earlier run."""

import json
from pathlib import Path

from transformers import AutoConfig, PreTrainedTokenizerBase

from bertkernels.data.tokenizer import load_tokenizer, model_vocab_size
from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.electra import ElectraConfig, ElectraForPreTraining, encoder_config, generator_config
from bertkernels.models.heads import EncoderForMaskedLM
from bertkernels.models.next_sentence import EncoderForMaskedLMAndNextSentence
from bertkernels.models.presets import electra_preset, electra_preset_names, preset
from bertkernels.training.pretrain_arguments import (
    ELECTRA,
    ENCODER_FIELDS,
    MASKED_LM,
    MASKED_LM_NSP,
    PretrainArguments,
)

_MODELS = {
    ELECTRA: ElectraForPreTraining,
    MASKED_LM: EncoderForMaskedLM,
    MASKED_LM_NSP: EncoderForMaskedLMAndNextSentence,
}


def pretraining_config(
    arguments: PretrainArguments, tokenizer: PreTrainedTokenizerBase
) -> ElectraConfig | EncoderConfig:
    """The configuration that the flags describe: of a pair for ELECTRA, of an encoder for the other objectives.

    Raises InputError where there is none, or where it doesn't fit the tokenizer or the examples' length.
    """
    if arguments.model_name_or_path:
        config = _earlier_config(arguments, tokenizer)
    else:
        config = _new_config(arguments, tokenizer)
    encoder = encoder_config(config)
    if arguments.max_seq_length > encoder.max_position_embeddings:
        raise InputError(
            f"--max_seq_length {arguments.max_seq_length} is above the model's max_position_embeddings "
            f"({encoder.max_position_embeddings})"
        )
    return config


def pretraining_model(
    arguments: PretrainArguments, config: ElectraConfig | EncoderConfig
) -> ElectraForPreTraining | EncoderForMaskedLM | EncoderForMaskedLMAndNextSentence:
    """The model of that configuration, with random weights or those of an earlier run. Raises InputError where some
    are missing there: they would be random unasked."""
    model_class = _MODELS[arguments.objective]
    if not arguments.model_name_or_path:
        return model_class(config)
    name = arguments.model_name_or_path
    try:
        model, report = model_class.from_pretrained(
            name, config=config, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"--model_name_or_path {name}: {reason}") from error
    lost = sorted({*report["missing_keys"], *(mismatch[0] for mismatch in report["mismatched_keys"])})
    if lost:
        raise InputError(
            f"--model_name_or_path {name} lacks {len(lost)} weights that --objective {arguments.objective} needs, such "
            f"as {lost[0]}"
        )
    return model


def _new_config(arguments: PretrainArguments, tokenizer: PreTrainedTokenizerBase) -> ElectraConfig | EncoderConfig:
    changes = {name: getattr(arguments, name) for name in ENCODER_FIELDS if getattr(arguments, name) is not None}
    changes |= {"vocab_size": model_vocab_size(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    if arguments.objective == MASKED_LM_NSP:
        changes["pooler"] = True  # trained with the rest
    generator = None
    if arguments.config_file:
        discriminator, generator = _read_config(arguments.config_file, changes)
    elif arguments.preset in electra_preset_names():
        pair = electra_preset(arguments.preset, **changes)
        discriminator, generator = pair.discriminator, pair.generator
    else:
        discriminator = preset(arguments.preset, **changes)
    if arguments.objective != ELECTRA:
        return discriminator
    generator = _generator(arguments, discriminator, generator)
    if generator is not None and not arguments.supernet_generator:
        generator = EncoderConfig(**generator.to_dict() | {"supernet_kinds": None})
    return ElectraConfig(
        generator=generator,
        discriminator=discriminator,
        untied_generator_embeddings=arguments.untied_generator_embeddings,
        untied_generator=arguments.untied_generator,
        uniform_generator=arguments.uniform_generator,
        **_losses(arguments),
    )


def _losses(arguments: PretrainArguments) -> dict:
    return {
        "masked_lm_weight": arguments.masked_lm_weight,
        "discriminator_weight": arguments.discriminator_weight,
        "temperature": arguments.temperature,
        "disallow_correct": arguments.disallow_correct,
        "duplicate_draws": "average" if arguments.masking == "electra" else "first",
    }


def _generator(
    arguments: PretrainArguments, discriminator: EncoderConfig, generator: EncoderConfig | None
) -> EncoderConfig | None:
    """The one that the flags ask for, else the given one; None where there is none of its own."""
    if arguments.uniform_generator or not arguments.untied_generator:
        return None
    untied = arguments.untied_generator_embeddings
    fraction, layers = arguments.generator_size, arguments.generator_layers
    if generator is None or fraction is not None or layers is not None:
        if fraction is None:
            fraction = generator.hidden_size / discriminator.hidden_size if generator else 0.25
        return generator_config(discriminator, fraction, untied, 1.0 if layers is None else layers)
    if untied:
        return EncoderConfig(**generator.to_dict() | {"embedding_size": generator.hidden_size})
    return generator


def _earlier_config(arguments: PretrainArguments, tokenizer: PreTrainedTokenizerBase) -> ElectraConfig | EncoderConfig:
    name = arguments.model_name_or_path
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise InputError(f"--model_name_or_path {name}: {str(error).strip().splitlines()[0]}") from error
    wanted = ElectraConfig if arguments.objective == ELECTRA else EncoderConfig
    if not isinstance(config, wanted):
        expected = "a generator and a discriminator" if wanted is ElectraConfig else "an encoder of this package"
        raise InputError(
            f"--model_name_or_path {name} is of the kind {config.model_type}; --objective {arguments.objective} goes "
            f"on from {expected}"
        )
    networks = [config]
    if wanted is ElectraConfig:
        networks = [network for network in (config.generator, config.discriminator) if network is not None]
        for field, value in _losses(arguments).items():
            setattr(config, field, value)
        config.check()
    if arguments.padding is not None:
        for network in networks:
            network.padding = arguments.padding
            network.check()
    _check_vocabulary(name, networks[-1].vocab_size, tokenizer)
    return config


def _check_vocabulary(name: str, rows: int, tokenizer: PreTrainedTokenizerBase) -> None:
    if rows != model_vocab_size(tokenizer):
        raise InputError(
            f"--model_name_or_path {name} has {rows:,} word embeddings, the tokenizer {model_vocab_size(tokenizer):,}"
        )
    if Path(name, "tokenizer.json").is_file() and load_tokenizer(name).get_vocab() != tokenizer.get_vocab():
        raise InputError(f"--model_name_or_path {name} was trained with another vocabulary")


def _read_config(path: str, changes: dict) -> tuple[EncoderConfig, EncoderConfig | None]:
    """Discriminator and, if the file has one, generator. Changes apply to the first; the vocabulary to both."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--config_file {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"--config_file {path}: not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"--config_file {path}: expected a JSON object")
    vocabulary = {name: changes[name] for name in ("vocab_size", "pad_token_id")}
    discriminator = EncoderConfig(**content.get("discriminator", content) | changes)
    generator = content.get("generator")
    return discriminator, EncoderConfig(**generator | vocabulary) if generator else None
