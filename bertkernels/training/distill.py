"""Distillation: a student learns a task, or text in general, from a teacher."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors.torch import load_file
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, set_seed

from bertkernels.data.prepared.folder import Prepared, open_prepared
from bertkernels.data.tokenizer import load_tokenizer, model_vocab_size
from bertkernels.errors import InputError
from bertkernels.models.shape_budget import ShapeBudget
from bertkernels.training.distill_arguments import DistillArguments
from bertkernels.training.distillation.block_map import FIRST, block_map
from bertkernels.training.distillation.collators import UnmaskedCollator
from bertkernels.training.distillation.comparison import Comparison, compare
from bertkernels.training.distillation.model import DistillationModel, encoder_of
from bertkernels.training.distillation.projection import AUTO, NONE, PER_BLOCK, Projection
from bertkernels.training.distillation.student import start_from_teacher, student_model
from bertkernels.training.distillation.teacher import DTYPES, load_encoder, load_with_head, match_labels, model_folder
from bertkernels.training.distillation.teacher_logits import with_teacher_logits
from bertkernels.training.distillation.trainers import PROJECTION_FILE, DistillationTrainer, GeneralDistillationTrainer
from bertkernels.training.encoder_size_arguments import SIZE_FIELDS
from bertkernels.training.finetune import (
    FinetuneResult,
    check_counts,
    choose_best,
    describe_data,
    encode_task,
    read_task,
    summary_lines,
    train_and_report,
    trainer_arguments,
)
from bertkernels.training.finetuned_folder import finetuned_folder
from bertkernels.training.finetuning_model import check_length, encoder_folder
from bertkernels.training.genotype_steps import GenotypeSteps
from bertkernels.training.output_folder import check_output_folder, clear_output_folder
from bertkernels.training.pretraining_trainer import PretrainingSet
from bertkernels.training.results_file import write_json
from bertkernels.training.training_arguments import FinetuneRunArguments

_TEACHER, _STUDENT = "--teacher_model_name_or_path", "--model_name_or_path"


@dataclass(frozen=True)
class _Roles:
    """Who learns from whom, before they are one model."""

    student: PreTrainedModel
    teacher: PreTrainedModel
    blocks: tuple[int | None, ...]


def distill(
    arguments: DistillArguments, run: FinetuneRunArguments, callbacks: Sequence[TrainerCallback] = ()
) -> FinetuneResult:
    """Distils, evaluates the student and saves it.

    On a task what is written into `run.output_dir` is what fine-tuning writes. On text (`arguments.prepared_dir`) it is
    the student's encoder, which fine-tuning and distillation on a task start from, and its losses on held-out text. The
    projection stands beside the student in `distillation_projection.safetensors`; a run that starts from this folder
    goes on with it. Raises InputError for bad flags, files, labels, and for models that can't be compared, before any
    training.
    """
    check_distillation(arguments, run)
    checkpoint = check_output_folder(run)
    if arguments.model_name_or_path is not None:
        with run.main_process_first(desc="fetching the student"):
            arguments = replace(arguments, model_name_or_path=model_folder(arguments.model_name_or_path, _STUDENT))
    on = _distill_task if arguments.prepared_dir is None else _distill_text
    return on(arguments, run, checkpoint, callbacks)


def _distill_task(
    arguments: DistillArguments,
    run: FinetuneRunArguments,
    checkpoint: str | None,
    callbacks: Sequence[TrainerCallback],
) -> FinetuneResult:
    task = read_task(arguments, run)
    with run.main_process_first(desc="fetching the teacher"):
        folder = finetuned_folder(arguments.teacher_model_name_or_path, arguments.task_name)
        folder = model_folder(folder, _TEACHER)
    if arguments.logits_weight:
        teacher = load_with_head(folder, task, _TEACHER)
        match_labels(teacher, task, arguments.label_scale)
    else:
        teacher = load_encoder(folder, _TEACHER)

    def configure(config) -> None:
        task.configure(config)
        if hasattr(config, "qa_head") and arguments.qa_head is None:
            config.qa_head, config.answerable_classifier = teacher.config.qa_head, teacher.config.answerable_classifier

    data = encode_task(task, arguments, run, folder)
    tokenizer = data.tokenizer
    _check_tokenizer(arguments, tokenizer, folder)
    set_seed(run.seed)
    student = student_model(arguments, tokenizer, teacher.config, task.auto_model, configure)
    classifier = getattr(student, "no_answer", None)
    if arguments.logits_weight and classifier is not None and teacher.no_answer is None:
        raise InputError(
            "the student has a classifier of unanswerable questions, the teacher none: give --qa_head plain"
        )
    model, comparison = _model(arguments, _Roles(student, teacher, _blocks(arguments, student, teacher)), tokenizer)
    for role in (student, teacher):
        check_length(role, data.length)
    if arguments.teacher_logits is not None:
        if comparison != Comparison():
            raise InputError(
                "--teacher_logits is for runs whose losses ask nothing else of the teacher: set other weights to 0"
            )
        with run.main_process_first(desc="asking the teacher"):
            features = with_teacher_logits(
                data.train.features,
                teacher,
                arguments.teacher_logits,
                task.collator(tokenizer, data.length, False),
                run.device,
                run.per_device_eval_batch_size,
                not run.disable_tqdm,
            )
        data = replace(data, train=replace(data.train, features=features))
    callbacks = [*callbacks, *choose_best(arguments, run, data), *_shape_steps(arguments, run, student)]
    if checkpoint is None:
        clear_output_folder(run)
    trainer = DistillationTrainer(callbacks=callbacks, **trainer_arguments(model, run, data))
    if trainer.is_world_process_zero():
        rows = {**describe_data(data), **_about(arguments, model, comparison), "output": run.output_dir}
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
        folder = encoder_folder(model_folder(arguments.teacher_model_name_or_path, _TEACHER))
    teacher = load_encoder(folder, _TEACHER)
    _check_vocabulary(tokenizer, folder, f"--prepared_dir {arguments.prepared_dir}")
    set_seed(run.seed)
    student = student_model(arguments, tokenizer, teacher.config, AutoModel, lambda config: None)
    model, comparison = _model(arguments, _Roles(student, teacher, _blocks(arguments, student, teacher)), tokenizer)
    for role in (student, teacher):
        check_length(role, prepared.max_length)
    callbacks = [*callbacks, *_shape_steps(arguments, run, student)]
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
        rows = {"text": _text(prepared), **_about(arguments, model, comparison), "output": run.output_dir}
        print(summary_lines(rows), flush=True)
    metrics = trainer.train(resume_from_checkpoint=checkpoint).metrics
    trainer.save_model()
    evaluated = trainer.evaluate() if prepared.validation is not None else {}
    if trainer.is_world_process_zero():
        write_json(Path(run.output_dir, "eval_results.json"), evaluated)
        write_json(Path(run.output_dir, "all_results.json"), metrics | evaluated)
    return FinetuneResult(Path(run.output_dir), metrics | evaluated, "loss", None, trainer.state.log_history)


def _shape_steps(
    arguments: DistillArguments, run: FinetuneRunArguments, student: PreTrainedModel
) -> list[TrainerCallback]:
    if not arguments.sample_shapes:
        return []
    limits = arguments.min_parameters, arguments.max_parameters
    try:
        budget = ShapeBudget(student.config, *limits, arguments.counted_projection)
    except InputError as error:
        raise InputError(f"--sample_shapes: {error}") from None
    return [GenotypeSteps(student, budget, run.seed)]


def check_models(arguments: DistillArguments, student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Raises InputError for a student and a teacher whose blocks, heads or widths cannot be compared as asked."""
    blocks = _blocks(arguments, student, teacher)
    _projection(
        arguments,
        student,
        teacher,
        compare(encoder_of(student), encoder_of(teacher), blocks, arguments.loss_settings()),
    )


def check_distillation(arguments: DistillArguments, run: FinetuneRunArguments) -> None:
    """Raises InputError for flags that don't go together or are out of range."""
    if arguments.teacher_model_name_or_path is None:
        raise InputError(f"{_TEACHER} is missing")
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
        of_tasks += ("teacher_logits", "label_weight", "best_on_dev", "early_stopping_patience")
        for name in of_tasks:
            if getattr(arguments, name):
                raise InputError(f"--{name} is for tasks: text, --prepared_dir, has no labels")
    if not arguments.loss_settings().compares_states and not arguments.logits_weight and not arguments.label_weight:
        raise InputError("all losses have weight 0")


def _check_tokenizer(arguments: DistillArguments, tokenizer: PreTrainedTokenizerBase, teacher: str) -> None:
    """Raises InputError where teacher or student read other tokens than the run's tokenizer, which is the teacher's own
    unless a flag names one."""
    for name in ("tokenizer_name", "vocab_file"):
        if getattr(arguments, name):
            _check_vocabulary(tokenizer, teacher, f"--{name} {getattr(arguments, name)}")
    if arguments.model_name_or_path:
        _check_vocabulary(tokenizer, encoder_folder(arguments.model_name_or_path), "the teacher")


def _check_vocabulary(tokenizer: PreTrainedTokenizerBase, folder: str, other: str) -> None:
    """Raises InputError where a model's folder has a tokenizer of another vocabulary."""
    beside = any(Path(folder, name).is_file() for name in ("tokenizer.json", "vocab.txt"))
    if beside and load_tokenizer(folder).get_vocab() != tokenizer.get_vocab():
        raise InputError(f"{folder} has another vocabulary than {other}: student and teacher must read the same tokens")


def _blocks(arguments: DistillArguments, student: PreTrainedModel, teacher: PreTrainedModel) -> tuple[int | None, ...]:
    """The map of blocks, which need not be one where nothing is compared; gives a fresh student its weights."""
    depths = [len(encoder_of(model).encoder.blocks) for model in (student, teacher)]
    blocks: tuple[int | None, ...] = ()
    if arguments.hidden_weight or arguments.attention_weight or arguments.init_from_teacher == "mapped":
        blocks = block_map(arguments.block_map, *depths)
    if arguments.init_from_teacher is not None:
        taken = block_map([FIRST], *depths) if arguments.init_from_teacher == "first" else blocks
        start_from_teacher(encoder_of(student), encoder_of(teacher), taken)
    return blocks


def _model(
    arguments: DistillArguments, roles: _Roles, tokenizer: PreTrainedTokenizerBase
) -> tuple[DistillationModel, Comparison]:
    student, teacher, settings = roles.student, roles.teacher, arguments.loss_settings()
    rows = model_vocab_size(tokenizer)
    for name, model in (("student", student), ("teacher", teacher)):
        if model.config.vocab_size < rows:
            raise InputError(
                f"the {name} has {model.config.vocab_size:,} word embeddings, the tokenizer {rows:,} tokens"
            )
        if arguments.losses_at_padding:
            encoder_of(model).config.padding = model.config.padding = "reference"
    comparison = compare(encoder_of(student), encoder_of(teacher), roles.blocks, settings)
    projection = _projection(arguments, student, teacher, comparison)
    teacher = teacher.to(DTYPES[arguments.teacher_dtype])
    return DistillationModel(student, teacher, comparison, settings, projection), comparison


def _projection(
    arguments: DistillArguments, student: PreTrainedModel, teacher: PreTrainedModel, comparison: Comparison
) -> Projection | None:
    """The layer between the widths, with the weights that stand beside the student where they are of its shape."""
    if not comparison.projected:
        return None
    widths = student.config.hidden_size, teacher.config.hidden_size
    if arguments.projection == NONE and widths[0] != widths[1]:
        raise InputError(
            f"--projection none: the student's hidden states have width {widths[0]}, the teacher's {widths[1]}"
        )
    if arguments.projection == NONE or (arguments.projection == AUTO and widths[0] == widths[1]):
        return None
    projection = Projection(*widths, comparison.projected, shared=arguments.projection != PER_BLOCK)
    earlier = Path(arguments.model_name_or_path or "", PROJECTION_FILE)
    if arguments.model_name_or_path and not arguments.from_scratch and earlier.is_file():
        weights = load_file(earlier)
        if {name: x.shape for name, x in weights.items()} == {
            name: x.shape for name, x in projection.state_dict().items()
        }:
            projection.load_state_dict(weights)
    return projection


def _about(arguments: DistillArguments, model: DistillationModel, comparison: Comparison) -> dict[str, str]:
    """What a run is, for people."""
    settings, config = arguments.loss_settings(), model.student.config
    size = f"{model.student.num_parameters():,}"
    if model.projection is not None:
        size += f" and {sum(x.numel() for x in model.projection.parameters()):,} of the projection"
    losses = []
    if comparison.embeddings:
        losses.append("embeddings")
    for name, pairs, first in (("states", comparison.hidden, 0), ("scores", comparison.attention, 1)):
        if pairs:
            losses.append(f"{name} of blocks {', '.join(f'{s + first}←{t + first}' for s, t in pairs)}")
    if settings.logits_weight:
        losses.append("logits")
    if settings.label_weight:
        losses.append("labels")
    teacher = model.teacher.config
    return {
        "teacher": f"{teacher.plan}, {teacher.hidden_size} wide ({arguments.teacher_model_name_or_path})",
        "student": f"{config.plan}, {config.hidden_size} wide",
        "parameters": size,
        "losses": "; ".join(losses),
    }


def _text(prepared: Prepared) -> str:
    return f"{prepared.manifest['text']}: {len(prepared.train):,} examples"
