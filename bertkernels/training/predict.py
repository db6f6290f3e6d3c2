"""Predictions of a fine-tuned model, in the files that their users expect."""

from pathlib import Path

from bertkernels.data.tokenizer import load_tokenizer
from bertkernels.errors import InputError
from bertkernels.training.finetuned_folder import finetuned_folder
from bertkernels.training.finetuning_model import check_length, finetuned_model
from bertkernels.training.finetuning_trainer import FinetuningTrainer
from bertkernels.training.predict_arguments import PredictArguments
from bertkernels.training.tasks.select import select_prediction
from bertkernels.training.tasks.task import Split
from bertkernels.training.training_arguments import FinetuneRunArguments


def predict(arguments: PredictArguments) -> list[Path]:
    """Predicts every split that the flags name; returns the files written to `--output_dir`.

    GLUE's tasks come as the leaderboard takes them, others as their kind of task writes them. Raises InputError for bad
    flags and files, for a model of another task or without its head, and for predictions that are there already, before
    any work.
    """
    _check(arguments)
    task = select_prediction(arguments)
    source = finetuned_folder(arguments.model_name_or_path, arguments.task_name)
    folder = Path(arguments.output_dir)
    _check_folder(folder, task.test, arguments.overwrite_output_dir)
    tokenizer = load_tokenizer(arguments.tokenizer_name or source)
    model = finetuned_model(task.auto_model, source)
    task.adopt(model.config)
    length = arguments.max_seq_length or task.max_length
    check_length(model, length)
    folder.mkdir(parents=True, exist_ok=True)
    trainer = FinetuningTrainer(
        model=model,
        args=_run(arguments),
        task=task,
        evaluation={},
        data_collator=task.collator(tokenizer, length, few_widths=False),
        processing_class=tokenizer,
    )
    written = []
    for name, rows in task.test.items():
        if arguments.max_predict_samples is not None:
            rows = task.part(rows, 0, arguments.max_predict_samples)
        split = Split(rows, task.encode(rows, tokenizer, length, training=False))
        outputs = trainer.outputs(split)
        if trainer.is_world_process_zero():
            written += task.write_predictions(folder, name, split, outputs)
            if arguments.probabilities:
                written += task.write_probabilities(folder, name, split, outputs)
    return written


def _run(arguments: PredictArguments) -> FinetuneRunArguments:
    return FinetuneRunArguments(
        output_dir=arguments.output_dir,
        per_device_eval_batch_size=arguments.per_device_eval_batch_size,
        bf16_full_eval=arguments.bf16,
        use_cpu=arguments.use_cpu,
        disable_tqdm=arguments.disable_tqdm,
        report_to="none",
    )


def _check(arguments: PredictArguments) -> None:
    for name in ("model_name_or_path", "output_dir"):
        if getattr(arguments, name) is None:
            raise InputError(f"--{name} is missing")
    if arguments.max_predict_samples is not None and arguments.max_predict_samples < 1:
        raise InputError(f"--max_predict_samples must be at least 1, not {arguments.max_predict_samples}")


def _check_folder(folder: Path, splits: dict, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output_dir {folder} is a file, expected a folder")
    for name in splits:
        # Files begin with their split's name, except those of an only split of questions.
        patterns = (f"{name}.*", f"{name}_*", "predictions.json")
        there = sorted(path for pattern in patterns for path in folder.glob(pattern))
        if there and not overwrite:
            raise InputError(f"{there[0]} is there already; replace it with --overwrite_output_dir")
