"""Distillation: a student learns a task, or text in general, from a teacher."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from transformers import AutoModel, TrainerCallback, set_seed

from bertkernels.data.prepared.folder import Prepared, open_prepared
from bertkernels.errors import InputError
from bertkernels.training.distill_arguments import DistillArguments
from bertkernels.training.distillation.collators import UnmaskedCollator
from bertkernels.training.distillation.learned_task import TEACHER_FLAG, learned_task
from bertkernels.training.distillation.roles import (
    Roles,
    check_vocabulary,
    compared_blocks,
    describe_roles,
    distillation_model,
    shape_steps,
)
from bertkernels.training.distillation.student import student_model
from bertkernels.training.distillation.teacher import load_encoder, model_folder
from bertkernels.training.distillation.trainers import DistillationTrainer, GeneralDistillationTrainer
from bertkernels.training.encoder_size_arguments import SIZE_FIELDS
from bertkernels.training.finetune import (
    FinetuneResult,
    check_counts,
    choose_best,
    describe_data,
    summary_lines,
    train_and_report,
    trainer_arguments,
)
from bertkernels.training.finetuning_model import check_length, encoder_folder
from bertkernels.training.multi_task.run import distill_tasks
from bertkernels.training.output_folder import check_output_folder, clear_output_folder
from bertkernels.training.pretraining_trainer import PretrainingSet
from bertkernels.training.results_file import write_json
from bertkernels.training.training_arguments import FinetuneRunArguments

_STUDENT = "--model_name_or_path"


def distill(
    arguments: DistillArguments, run: FinetuneRunArguments, callbacks: Sequence[TrainerCallback] = ()
) -> FinetuneResult:
    """Distils, evaluates the student and saves it.

    On a task what is written into `run.output_dir` is what fine-tuning writes; on several at once
    (`arguments.multi_task`) each task's model is in a folder of its name inside. On text (`arguments.prepared_dir`) it
    is the student's encoder, which fine-tuning and distillation on a task start from, and its losses on held-out text.
    The projection stands beside the student in `distillation_projection.safetensors`; a run that starts from this
    folder goes on with it. Raises InputError for bad flags, files, labels, and for models that can't be compared,
    before any training.
    """
    check_distillation(arguments, run)
    checkpoint = check_output_folder(run)
    if arguments.model_name_or_path is not None:
        with run.main_process_first(desc="fetching the student"):
            arguments = replace(arguments, model_name_or_path=model_folder(arguments.model_name_or_path, _STUDENT))
    on = _distill_task if arguments.prepared_dir is None else _distill_text
    if arguments.multi_task:
        on = distill_tasks
    return on(arguments, run, checkpoint, callbacks)


def _distill_task(
    arguments: DistillArguments,
    run: FinetuneRunArguments,
    checkpoint: str | None,
    callbacks: Sequence[TrainerCallback],
) -> FinetuneResult:
    learned = learned_task(arguments, run)
    data, model = learned.data, learned.model
    callbacks = [*callbacks, *choose_best(arguments, run, data), *shape_steps(arguments, run, model.student)]
    if checkpoint is None:
        clear_output_folder(run)
    trainer = DistillationTrainer(callbacks=callbacks, **trainer_arguments(model, run, data))
    if trainer.is_world_process_zero():
        rows = {**describe_data(data), **describe_roles(arguments, model, learned.comparison), "output": run.output_dir}
        print(summary_lines(rows), flush=True)
    return train_and_report(trainer, data, checkpoint)


def _distill_text(
    arguments: DistillArguments,
    run: FinetuneRunArguments,
    checkpoint: str | None,
    callbacks: Sequence[TrainerCallback],
) -> FinetuneResult:
    prepared = open_prepared(arguments.prepared_dir)
    if run.eval_strategy != "no" and prepared.validation is None:
        raise InputError(f"--eval_strategy {run.eval_strategy.value} needs text held out by `bertkernels prepare`")
    tokenizer = prepared.tokenizer()
    with run.main_process_first(desc="fetching the teacher"):
        folder = encoder_folder(model_folder(arguments.teacher_model_name_or_path, TEACHER_FLAG))
    teacher = load_encoder(folder, TEACHER_FLAG)
    check_vocabulary(tokenizer, folder, f"--prepared_dir {arguments.prepared_dir}")
    set_seed(run.seed)
    student = student_model(arguments, tokenizer, teacher.config, AutoModel, lambda config: None)
    model, comparison = distillation_model(
        arguments, Roles(student, teacher, compared_blocks(arguments, student, teacher)), tokenizer
    )
    for role in (student, teacher):
        check_length(role, prepared.max_length)
    callbacks = [*callbacks, *shape_steps(arguments, run, student)]
    if checkpoint is None:
        clear_output_folder(run)
    trainer = GeneralDistillationTrainer(
        model=model,
        args=run,
        train_dataset=PretrainingSet(prepared.train),
        eval_dataset=None if prepared.validation is None else PretrainingSet(prepared.validation),
        data_collator=UnmaskedCollator(tokenizer.pad_token_id),
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    if trainer.is_world_process_zero():
        rows = {"text": _text(prepared), **describe_roles(arguments, model, comparison), "output": run.output_dir}
        print(summary_lines(rows), flush=True)
    metrics = trainer.train(resume_from_checkpoint=checkpoint).metrics
    trainer.save_model()
    evaluated = trainer.evaluate() if prepared.validation is not None else {}
    if trainer.is_world_process_zero():
        write_json(Path(run.output_dir, "eval_results.json"), evaluated)
        write_json(Path(run.output_dir, "all_results.json"), metrics | evaluated)
    return FinetuneResult(Path(run.output_dir), metrics | evaluated, "loss", None, trainer.state.log_history)


def check_distillation(arguments: DistillArguments, run: FinetuneRunArguments) -> None:
    """Raises InputError for flags that don't go together or are out of range."""
    if arguments.teacher_model_name_or_path is None:
        settings = arguments.loss_settings()
        if not arguments.multi_task or settings.compares_states or settings.logits_weight:
            raise InputError(f"{TEACHER_FLAG} is missing")
        if arguments.model_name_or_path is None:
            raise InputError(f"without {TEACHER_FLAG} the student must be that of {_STUDENT}")
    fresh = [name for name in ("preset", *SIZE_FIELDS) if getattr(arguments, name) is not None]
    if (arguments.model_name_or_path is None) == (not fresh):
        raise InputError("the student is either that of --model_name_or_path or one that --preset or --plan describe")
    if arguments.init_from_teacher is not None and not fresh:
        raise InputError("--init_from_teacher is for a student of --preset or --plan: --model_name_or_path has weights")
    if arguments.tokenizer_name and arguments.vocab_file:
        raise InputError("give --tokenizer_name or --vocab_file, not both")
    for name in ("embedding_weight", "hidden_weight", "attention_weight", "logits_weight", "label_weight"):
        if not getattr(arguments, name) >= 0:
            raise InputError(f"--{name} must be from 0, not {getattr(arguments, name)}")
    check_counts(arguments)
    if not arguments.temperature > 0:
        raise InputError(f"--temperature must be above 0, not {arguments.temperature}")
    for flag in ("cuda_graphs", "torch_compile", "deepspeed", "fsdp"):
        if getattr(run, flag):
            raise InputError(f"--{flag} does not go with distillation, whose steps run two models")
    if not arguments.logits_weight and not arguments.label_weight:
        for name in ("best_on_dev", "early_stopping_patience"):
            if getattr(arguments, name) and arguments.prepared_dir is None:
                raise InputError(f"--{name}: no loss trains the head, --logits_weight and --label_weight are 0")
    if arguments.prepared_dir is not None:
        of_tasks = ("task_name", "glue_dir", "squad_dir", "tagging_dir", "train_file", "dataset_name", "text_source")
        of_tasks += ("teacher_logits", "label_weight", "best_on_dev", "early_stopping_patience", "multi_task")
        for name in of_tasks:
            if getattr(arguments, name):
                raise InputError(f"--{name} is for tasks: text, --prepared_dir, has no labels")
    if not arguments.loss_settings().compares_states and not arguments.logits_weight and not arguments.label_weight:
        raise InputError("all losses have weight 0")


def _text(prepared: Prepared) -> str:
    return f"{prepared.manifest['text']}: {len(prepared.train):,} examples"
