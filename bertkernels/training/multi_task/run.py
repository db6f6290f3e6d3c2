"""Distillation of several tasks at once into one encoder with a head for each."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from transformers import TrainerCallback

from bertkernels.data.glue import TRAINED, check_glue_folders, task_names
from bertkernels.errors import InputError
from bertkernels.training.best_model import early_stopping, keep_best
from bertkernels.training.distill_arguments import DistillArguments
from bertkernels.training.distillation.learned_task import LearnedTask, learned_task
from bertkernels.training.distillation.roles import describe_roles, shape_steps
from bertkernels.training.finetune import FinetuneResult, describe_data, summary_lines
from bertkernels.training.finetuned_folder import RESULTS, finetuned_folder, holds_tasks
from bertkernels.training.multi_task.model import MultiTaskModel, check_same_encoder
from bertkernels.training.multi_task.trainer import AVERAGE, MultiTaskTrainer, named_splits, task_scores
from bertkernels.training.output_folder import clear_output_folder
from bertkernels.training.results_file import write_json
from bertkernels.training.training_arguments import FinetuneRunArguments


def distill_tasks(
    arguments: DistillArguments,
    run: FinetuneRunArguments,
    checkpoint: str | None,
    callbacks: Sequence[TrainerCallback],
) -> FinetuneResult:
    """Trains a student on all tasks of `--task_name` at once, evaluates each and saves it.

    Into `run.output_dir`: a folder for each task with its model, the encoder and that task's head, as a run on that
    task alone writes it; checkpoints, results and logs of them all. Raises InputError as `distill`.
    """
    names = chosen_tasks(arguments)
    check_multi_task(arguments, run)
    learned = {name: learned_task(_alone(arguments, name), run) for name in names}
    tasks = {name: one.data for name, one in learned.items()}
    for name, data in tasks.items():
        if not data.evaluation:
            raise InputError(f"--multi_task: {name} has no rows with labels to evaluate on: add --held_out_samples")
    if _goes_on(arguments):
        students = {name: one.model.student for name, one in learned.items()}
        check_same_encoder(students, arguments.model_name_or_path)
    model = MultiTaskModel({name: one.model for name, one in learned.items()})
    callbacks = [*callbacks, *shape_steps(arguments, run, model.student)]
    if arguments.best_on_dev or arguments.early_stopping_patience is not None:
        keep_best(run, tasks, AVERAGE)
        run.metric_for_best_model = f"eval_{AVERAGE}"
    if arguments.early_stopping_patience is not None:
        callbacks.append(early_stopping(run, arguments.early_stopping_patience))
    if run.ddp_find_unused_parameters is None:
        run.ddp_find_unused_parameters = True  # a step has no gradients for the heads of other tasks
    if checkpoint is None:
        clear_output_folder(run)
    trainer = MultiTaskTrainer(model=model, args=run, tasks=tasks, callbacks=callbacks)
    if trainer.is_world_process_zero():
        print(_summary(arguments, run, learned), flush=True)
    metrics = trainer.train(resume_from_checkpoint=checkpoint).metrics
    trainer.save_model()
    evaluated = trainer.evaluate()
    score = evaluated[f"eval_{AVERAGE}"]
    for name, data in tasks.items():
        for split, rows in named_splits(name, data).items():
            evaluated |= {f"eval_{split}_{key}": value for key, value in data.task.baselines(rows.rows).items()}
    if trainer.is_world_process_zero():
        folder = Path(run.output_dir)
        scores = {f"{name}_{tasks[name].task.metric}": value for name, value in task_scores(tasks, evaluated).items()}
        write_json(folder / "eval_results.json", evaluated)
        write_json(folder / RESULTS, metrics | evaluated | scores | {"main_metric": AVERAGE, "main_score": score})
    return FinetuneResult(Path(run.output_dir), metrics | evaluated, AVERAGE, score, trainer.state.log_history)


def chosen_tasks(arguments: DistillArguments) -> list[str]:
    """The tasks of `--task_name`. Raises InputError where they are not several of GLUE's, and there."""
    names = task_names(arguments.task_name, TRAINED) if arguments.task_name else []
    if len(names) < 2:
        raise InputError(
            f"--multi_task wants several tasks of GLUE: --task_name MNLI,QQP,SST-2, not {arguments.task_name}"
        )
    if arguments.glue_dir:
        check_glue_folders(arguments.glue_dir, names)
    return names


def check_multi_task(arguments: DistillArguments, run: FinetuneRunArguments) -> None:
    """Raises InputError for flags that don't go with several tasks at once."""
    if run.tokens_per_batch is not None or run.train_sampling_strategy != "random":
        flag = "train_sampling_strategy" if run.tokens_per_batch is None else "tokens_per_batch"
        raise InputError(f"--{flag} does not go with --multi_task, which draws its batches by task")


def _alone(arguments: DistillArguments, task: str) -> DistillArguments:
    """The flags of a run on one of the tasks."""
    changes: dict[str, object] = {"task_name": task, "multi_task": False}
    if _goes_on(arguments):
        changes["model_name_or_path"] = finetuned_folder(arguments.model_name_or_path, task)
    if arguments.teacher_logits is not None:
        changes["teacher_logits"] = str(Path(arguments.teacher_logits, task))
    return replace(arguments, **changes)


def _goes_on(arguments: DistillArguments) -> bool:
    """Whether the student has a head for each task already."""
    return arguments.model_name_or_path is not None and holds_tasks(arguments.model_name_or_path)


def _summary(arguments: DistillArguments, run: FinetuneRunArguments, learned: dict[str, LearnedTask]) -> str:
    rows = {}
    for name, one in learned.items():
        about = describe_data(one.data)
        rows[name] = f"{about['task']}; {about['rows']}"
    first = next(iter(learned.values()))
    about = describe_roles(arguments, first.model, first.comparison)
    return summary_lines({**rows, **about, "output": run.output_dir})
