"""Pre-training of any encoder on dynamically masked text: ELECTRA's generator and discriminator, a masked language
model, or BERT's masked language model with next-sentence prediction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, set_seed

from bertkernels.data.prepared.folder import Prepared, open_prepared
from bertkernels.data.pretraining import pretraining_examples
from bertkernels.data.text_arguments import source_of, tokenizer_of
from bertkernels.data.tokenizer import model_vocab_size
from bertkernels.errors import InputError
from bertkernels.models.electra import ElectraForPreTraining, encoder_config
from bertkernels.models.supernet import is_supernet
from bertkernels.training.electra_trainer import ElectraTrainer
from bertkernels.training.graphed_steps import check_cuda_graphs
from bertkernels.training.masked_lm_trainer import MaskedLMTrainer
from bertkernels.training.masking_collator import MaskingCollator
from bertkernels.training.next_sentence_trainer import NextSentenceTrainer
from bertkernels.training.output_folder import check_output_folder, clear_output_folder
from bertkernels.training.pretrain_arguments import (
    ELECTRA,
    MASKED_LM,
    MASKED_LM_NSP,
    PretrainArguments,
    check_arguments,
    fit_prepared,
)
from bertkernels.training.pretraining_model import pretraining_config, pretraining_model
from bertkernels.training.pretraining_trainer import PretrainingSet, PretrainingTrainer
from bertkernels.training.supernet_steps import SupernetSteps, check_supernet_run
from bertkernels.training.training_arguments import PretrainRunArguments
from bertkernels.training.whole_words import continuation_pieces

DISCRIMINATOR_FOLDER = "discriminator"
TRAINERS = {ELECTRA: ElectraTrainer, MASKED_LM: MaskedLMTrainer, MASKED_LM_NSP: NextSentenceTrainer}


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
    check_arguments(arguments)
    check_cuda_graphs(run)
    checkpoint = check_output_folder(run)
    if arguments.prepared_dir:
        prepared = open_prepared(arguments.prepared_dir)
        arguments = fit_prepared(arguments, prepared)
        tokenizer = prepared.tokenizer()
        config = pretraining_config(arguments, tokenizer)
    else:
        arguments = replace(
            arguments,
            max_seq_length=arguments.packing_options().max_length,
            tokenizer_name=_tokenizer_name(arguments),
        )
        source = source_of(arguments)
        with run.main_process_first(desc="preparing text"):
            tokenizer = tokenizer_of(arguments, source)
            config = pretraining_config(arguments, tokenizer)
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
    collator = masking_collator(arguments, tokenizer, run)
    set_seed(run.seed)
    model = pretraining_model(arguments, config)
    supernet = None
    if is_supernet(model):
        check_supernet_run(run)
        supernet = SupernetSteps(model, arguments.path_sampling, run.seed, arguments.model_name_or_path)
    if checkpoint is None:
        clear_output_folder(run)
    trainer = TRAINERS[arguments.objective](
        model=model,
        args=run,
        train_dataset=PretrainingSet(prepared.train),
        eval_dataset=PretrainingSet(prepared.validation) if prepared.validation is not None else None,
        data_collator=collator,
        processing_class=tokenizer,
        callbacks=list(callbacks),
        supernet=supernet,
    )
    if trainer.is_world_process_zero():
        print(_summary(prepared, model, trainer), flush=True)
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()
    if prepared.validation is not None:
        trainer.save_metrics("eval", trainer.evaluate())
    electra = arguments.objective == ELECTRA
    encoder = Path(run.output_dir, DISCRIMINATOR_FOLDER) if electra else Path(run.output_dir)
    if electra:
        _save_discriminator(trainer, encoder)
    trainer.accelerator.wait_for_everyone()
    return PretrainResult(
        Path(run.output_dir),
        encoder,
        trainer.state.global_step,
        model.num_parameters(),
        trainer.state.log_history,
    )


def _save_discriminator(trainer: PretrainingTrainer, folder: Path) -> None:
    """Writes the pair's discriminator and the tokenizer. Every process must call it: each may hold a part."""
    weights = trainer.accelerator.get_state_dict(trainer.model)
    if trainer.is_world_process_zero():
        pair = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
        prefix = "discriminator."
        own = {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
        pair.discriminator.save_pretrained(folder, state_dict=own)
        trainer.processing_class.save_pretrained(folder)


def _tokenizer_name(arguments: PretrainArguments) -> str | None:
    """What is pre-trained further keeps its vocabulary."""
    named = arguments.tokenizer_name or arguments.vocab_file
    return arguments.tokenizer_name if named else arguments.model_name_or_path


def masking_collator(
    arguments: PretrainArguments, tokenizer: PreTrainedTokenizerBase, run: PretrainRunArguments
) -> MaskingCollator:
    """What makes batches of examples of `arguments.max_seq_length` at most."""
    return MaskingCollator(
        pad_id=tokenizer.pad_token_id,
        cls_id=tokenizer.cls_token_id,
        sep_id=tokenizer.sep_token_id,
        mask_id=tokenizer.mask_token_id,
        max_length=arguments.max_seq_length,
        seed=run.seed,
        mask_probability=arguments.mask_probability,
        masking=arguments.masking,
        vocab_size=model_vocab_size(tokenizer),
        inside_words=continuation_pieces(tokenizer) if arguments.whole_word_masking else None,
        pad_to_max_length=arguments.pad_to_max_length or run.cuda_graphs,  # one graph
    )


def _summary(prepared: Prepared, model: PreTrainedModel, trainer: PretrainingTrainer) -> str:
    args = trainer.args
    batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    per_epoch = max(1, -(-len(prepared.train) // batch))
    steps = args.max_steps if args.max_steps > 0 else round(per_epoch * args.num_train_epochs)
    encoder = encoder_config(model.config)
    rows = {
        "plan": encoder.plan,
        **({"kinds": ", ".join(encoder.supernet_kinds)} if encoder.supernet_kinds else {}),
        "parameters": _parameters(model),
        "text": f"{prepared.manifest['text']}: {len(prepared.train):,} examples, "
        f"{prepared.summary['splits']['train']['example_tokens']:,} tokens, vocabulary {encoder.vocab_size:,}",
        "steps": f"{steps:,} of {batch} examples ({steps / per_epoch:.2f} epochs)",
        "output": str(args.output_dir),
    }
    return "\n".join(f"{name:>10}: {value}" for name, value in rows.items())


def _parameters(model: PreTrainedModel) -> str:
    total = f"{model.num_parameters():,}"
    pair = isinstance(model, ElectraForPreTraining) and model.config.has_generator
    if not pair or model.config.untied_generator_embeddings:
        return total
    parts = (f"{name} {getattr(model, name).num_parameters():,}" for name in ("discriminator", "generator"))
    return f"{total} ({', '.join(parts)}, shared embeddings counted once)"
