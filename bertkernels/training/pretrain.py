"""Pre-training of any encoder on dynamically masked text: ELECTRA's generator and discriminator, or a masked language
model."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

from transformers import PreTrainedTokenizerBase, TrainerCallback, set_seed

from bertkernels.data.prepared.folder import Prepared, open_prepared
from bertkernels.data.pretraining import pretraining_examples
from bertkernels.data.text_arguments import TextArguments, check_text, source_of, tokenizer_of
from bertkernels.data.tokenizer import model_vocab_size
from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.electra import ElectraConfig, ElectraForPreTraining, generator_config
from bertkernels.models.heads import EncoderForMaskedLM
from bertkernels.models.presets import electra_preset, electra_preset_names, preset
from bertkernels.training.electra_trainer import ElectraTrainer
from bertkernels.training.graphed_steps import check_cuda_graphs
from bertkernels.training.masked_lm_trainer import MaskedLMTrainer
from bertkernels.training.masking import MASKINGS, max_predictions
from bertkernels.training.masking_collator import MaskingCollator
from bertkernels.training.output_folder import check_output_folder, clear_output_folder
from bertkernels.training.pretraining_trainer import PretrainingSet, PretrainingTrainer
from bertkernels.training.training_arguments import PretrainRunArguments

DISCRIMINATOR_FOLDER = "discriminator"
OBJECTIVES = ("electra", "masked_lm")
_ENCODER_FIELDS = (
    "plan",
    "hidden_size",
    "embedding_size",
    "num_attention_heads",
    "intermediate_size",
    "conv_kernel_size",
    "head_ratio",
    "max_position_embeddings",
    "padding",
)


@dataclass
class PretrainArguments(TextArguments):
    """What to pre-train, and on which text."""

    objective: Literal["electra", "masked_lm"] = field(
        default="electra",
        metadata={
            "help": "electra: a generator, and the encoder tells replaced tokens; masked_lm: the encoder predicts."
        },
    )
    preset: str | None = field(
        default=None, metadata={"help": "A published encoder: convbert-small, electra-base, ..."}
    )
    config_file: str | None = field(
        default=None, metadata={"help": "config.json of an encoder, or of a generator and discriminator."}
    )
    plan: str | None = field(default=None, metadata={"help": 'Sub-layers, such as "12*(mixed ffn)".'})
    hidden_size: int | None = field(default=None, metadata={"help": "Width of the hidden states."})
    embedding_size: int | None = field(default=None, metadata={"help": "Width of the embedding tables."})
    num_attention_heads: int | None = field(default=None, metadata={"help": "Attention heads."})
    intermediate_size: int | None = field(default=None, metadata={"help": "Width of feed-forward layers."})
    conv_kernel_size: int | None = field(default=None, metadata={"help": "Taps of dynamic convolutions."})
    head_ratio: float | None = field(default=None, metadata={"help": "Share of heads a mixed sub-layer gives up."})
    max_position_embeddings: int | None = field(default=None, metadata={"help": "Longest sequence the model can take."})
    padding: str | None = field(default=None, metadata={"help": '"exact" or "reference".'})
    generator_size: float | None = field(
        default=None, metadata={"help": "Width of the generator as a fraction of the discriminator's."}
    )
    untied_generator_embeddings: bool = field(default=False, metadata={"help": "Embeddings of the generator's own."})
    masked_lm_weight: float = field(default=1.0, metadata={"help": "Weight of the generator's loss."})
    discriminator_weight: float = field(default=50.0, metadata={"help": "Weight of the discriminator's loss."})
    temperature: float = field(default=1.0, metadata={"help": "Of the distribution the generator samples from."})
    disallow_correct: bool = field(default=False, metadata={"help": "Never sample the true token."})

    prepared_dir: str | None = field(
        default=None,
        metadata={"help": "What `bertkernels prepare` wrote: examples and tokenizer, in place of text and vocabulary."},
    )
    masking: Literal["without_replacement", "electra"] = field(
        default="without_replacement",
        metadata={"help": "electra: positions with replacement, repeated ones averaged, as the original."},
    )
    mask_probability: float = field(default=0.15, metadata={"help": "Share of tokens to predict."})
    pad_to_max_length: bool = field(default=False, metadata={"help": "All batches of one width (torch.compile)."})
    data_cache_dir: str | None = field(
        default=None, metadata={"help": "Where examples are kept between runs; default: the cache folder."}
    )


@dataclass(frozen=True)
class PretrainResult:
    """A finished run: where all of it is, the folder that fine-tuning starts from, and all log entries."""

    output_dir: Path
    encoder: Path
    steps: int
    parameters: int
    log: list[dict]


def pretrain(
    arguments: PretrainArguments, run: PretrainRunArguments, callbacks: Sequence[TrainerCallback] = ()
) -> PretrainResult:
    """Pre-trains and saves.

    Into `run.output_dir`: the model (ELECTRA: the pair), the tokenizer, checkpoints, `train_log.jsonl`, and
    TensorBoard's files in `runs`; for ELECTRA into its folder `discriminator`: the discriminator with the tokenizer,
    which fine-tuning starts from. Where text is held out, the model is evaluated on it at the end, into
    `eval_results.json`, and in between as `run.eval_strategy` says. Raises InputError for bad flags or files, before
    any work on the model.
    """
    _check(arguments)
    check_cuda_graphs(run)
    checkpoint = check_output_folder(run)
    if arguments.prepared_dir:
        prepared = open_prepared(arguments.prepared_dir)
        arguments = replace(arguments, max_seq_length=_prepared_length(arguments, prepared))
        tokenizer = prepared.tokenizer()
        config = _config(arguments, tokenizer)
    else:
        arguments = replace(arguments, max_seq_length=arguments.packing_options().max_length)
        source = source_of(arguments)
        with run.main_process_first(desc="preparing text"):
            tokenizer = tokenizer_of(arguments, source)
            config = _config(arguments, tokenizer)
            prepared = pretraining_examples(
                source,
                tokenizer,
                arguments.packing_options(),
                seed=run.seed,
                validation_share=arguments.validation_share,
                folder=Path(arguments.data_cache_dir) if arguments.data_cache_dir else None,
                num_workers=arguments.num_workers,
            )
    if run.eval_strategy != "no" and prepared.validation is None:
        raise InputError(f"--eval_strategy {run.eval_strategy.value} needs text held out with --validation_share")
    if checkpoint is None:
        clear_output_folder(run)
    set_seed(run.seed)
    electra = arguments.objective == "electra"
    model = ElectraForPreTraining(config) if electra else EncoderForMaskedLM(config.discriminator)
    trainer_class = ElectraTrainer if electra else MaskedLMTrainer
    trainer = trainer_class(
        model=model,
        args=run,
        train_dataset=PretrainingSet(prepared.train),
        eval_dataset=PretrainingSet(prepared.validation) if prepared.validation is not None else None,
        data_collator=_collator(arguments, tokenizer, run),
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )
    if trainer.is_world_process_zero():
        print(_summary(prepared, model, trainer), flush=True)
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()
    if prepared.validation is not None:
        trainer.save_metrics("eval", trainer.evaluate())
    encoder = Path(run.output_dir, DISCRIMINATOR_FOLDER) if electra else Path(run.output_dir)
    if electra and trainer.is_world_process_zero():
        trained = trainer.accelerator.unwrap_model(trainer.model)
        trained.discriminator.save_pretrained(encoder)
        tokenizer.save_pretrained(encoder)
    trainer.accelerator.wait_for_everyone()
    return PretrainResult(
        Path(run.output_dir),
        encoder,
        trainer.state.global_step,
        model.num_parameters(),
        trainer.state.log_history,
    )


def _check(arguments: PretrainArguments) -> None:
    if (arguments.preset is None) == (arguments.config_file is None):
        raise InputError("give either --preset or --config_file")
    if arguments.prepared_dir is None:
        check_text(arguments)
    else:
        _check_prepared(arguments)
    choices = (
        ("objective", arguments.objective, OBJECTIVES),
        ("masking", arguments.masking, MASKINGS),
    )
    for name, value, known in choices:
        if value not in known:
            raise InputError(f"--{name} must be one of {', '.join(known)}, not {value!r}")
    if arguments.objective == "masked_lm":
        for name in ("generator_size", "untied_generator_embeddings", "disallow_correct"):
            if getattr(arguments, name):
                raise InputError(f"--{name} is for --objective electra: a masked language model has no generator")
    if not 0 < arguments.mask_probability < 1:
        raise InputError(f"--mask_probability must be between 0 and 1, not {arguments.mask_probability}")
    if arguments.prepared_dir is None:
        _check_length(arguments, arguments.packing_options().max_length)


def _check_length(arguments: PretrainArguments, length: int) -> None:
    if max_predictions(length, arguments.mask_probability) < 1:
        raise InputError(f"--max_seq_length {length} leaves no room for a prediction")


def _check_prepared(arguments: PretrainArguments) -> None:
    """A prepared folder was shaped by these flags when it was made."""
    for flag in fields(TextArguments):
        if flag.name not in ("max_seq_length", "num_workers") and getattr(arguments, flag.name) != flag.default:
            raise InputError(f"--{flag.name} is for `bertkernels prepare`: --prepared_dir has its own text")


def _prepared_length(arguments: PretrainArguments, prepared: Prepared) -> int:
    if arguments.max_seq_length not in (None, prepared.max_length):
        raise InputError(
            f"--max_seq_length {arguments.max_seq_length}: --prepared_dir {prepared.folder} was prepared with "
            f"{prepared.max_length}"
        )
    _check_length(arguments, prepared.max_length)
    return prepared.max_length


def _config(arguments: PretrainArguments, tokenizer: PreTrainedTokenizerBase) -> ElectraConfig:
    changes = {name: getattr(arguments, name) for name in _ENCODER_FIELDS if getattr(arguments, name) is not None}
    changes |= {"vocab_size": model_vocab_size(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    generator = None
    if arguments.config_file:
        discriminator, generator = _read_config(arguments.config_file, changes)
    elif arguments.preset in electra_preset_names():
        pair = electra_preset(arguments.preset, **changes)
        discriminator, generator = pair.discriminator, pair.generator
    else:
        discriminator = preset(arguments.preset, **changes)
    if arguments.generator_size is not None:
        if not 0 < arguments.generator_size <= 1:
            raise InputError(f"--generator_size must be above 0 and at most 1, not {arguments.generator_size}")
        generator = generator_config(discriminator, arguments.generator_size, arguments.untied_generator_embeddings)
    elif arguments.untied_generator_embeddings and generator is not None:
        generator = EncoderConfig(**generator.to_dict() | {"embedding_size": generator.hidden_size})
    if arguments.max_seq_length > discriminator.max_position_embeddings:
        raise InputError(
            f"--max_seq_length {arguments.max_seq_length} is above the model's max_position_embeddings "
            f"({discriminator.max_position_embeddings})"
        )
    return ElectraConfig(
        generator=generator,
        discriminator=discriminator,
        masked_lm_weight=arguments.masked_lm_weight,
        discriminator_weight=arguments.discriminator_weight,
        temperature=arguments.temperature,
        disallow_correct=arguments.disallow_correct,
        duplicate_draws="average" if arguments.masking == "electra" else "first",
        untied_generator_embeddings=arguments.untied_generator_embeddings,
    )


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


def _collator(
    arguments: PretrainArguments, tokenizer: PreTrainedTokenizerBase, run: PretrainRunArguments
) -> MaskingCollator:
    return MaskingCollator(
        pad_id=tokenizer.pad_token_id,
        cls_id=tokenizer.cls_token_id,
        sep_id=tokenizer.sep_token_id,
        mask_id=tokenizer.mask_token_id,
        max_length=arguments.max_seq_length,
        seed=run.seed,
        mask_probability=arguments.mask_probability,
        masking=arguments.masking,
        pad_to_max_length=arguments.pad_to_max_length or run.cuda_graphs,  # one graph
    )


def _summary(prepared: Prepared, model: ElectraForPreTraining | EncoderForMaskedLM, trainer: PretrainingTrainer) -> str:
    args = trainer.args
    batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    per_epoch = max(1, -(-len(prepared.train) // batch))
    steps = args.max_steps if args.max_steps > 0 else round(per_epoch * args.num_train_epochs)
    encoder = model.config.discriminator if isinstance(model, ElectraForPreTraining) else model.config
    rows = {
        "plan": encoder.plan,
        "parameters": _parameters(model),
        "text": f"{prepared.manifest['text']}: {len(prepared.train):,} examples, "
        f"{prepared.summary['splits']['train']['example_tokens']:,} tokens, vocabulary {encoder.vocab_size:,}",
        "steps": f"{steps:,} of {batch} examples ({steps / per_epoch:.2f} epochs)",
        "output": str(args.output_dir),
    }
    return "\n".join(f"{name:>10}: {value}" for name, value in rows.items())


def _parameters(model: ElectraForPreTraining | EncoderForMaskedLM) -> str:
    total = f"{model.num_parameters():,}"
    if not isinstance(model, ElectraForPreTraining) or model.config.untied_generator_embeddings:
        return total
    parts = (f"{name} {getattr(model, name).num_parameters():,}" for name in ("discriminator", "generator"))
    return f"{total} ({', '.join(parts)}, shared embeddings counted once)"
