"""Fine-tuning on any kind of task."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, set_seed

from bertkernels.data.tokenizer import load_tokenizer, read_vocabulary, tokenizer_from_vocabulary
from bertkernels.errors import InputError
from bertkernels.training.best_model import early_stopping, keep_best
from bertkernels.training.finetune_arguments import FinetuneArguments
from bertkernels.training.finetuned_folder import RESULTS
from bertkernels.training.finetuning_model import check_length, encoder_folder, preset_model, pretrained_model
from bertkernels.training.finetuning_trainer import FinetuningTrainer
from bertkernels.training.graphed_steps import check_cuda_graphs
from bertkernels.training.output_folder import check_output_folder, clear_output_folder
from bertkernels.training.results_file import write_json
from bertkernels.training.tasks.select import select_task
from bertkernels.training.tasks.task import FinetuningTask, Split
from bertkernels.training.training_arguments import FinetuneRunArguments

HELD_OUT = "held_out"  # the split of `--held_out_samples`


@dataclass(frozen=True)
class FinetuneResult:
    """A finished run: the model's folder, metrics of training and evaluation (`eval_...`), the metric to compare models
    by (without `eval_`), its mean over the evaluated splits (None without any), and all log entries."""

    output_dir: Path
    metrics: dict[str, float]
    main_metric: str
    main_score: float | None
    log: list[dict]


@dataclass(frozen=True)
class TaskData:
    """A task and its features: to train on, and by split to evaluate on. No input is longer than `length` tokens."""

    task: FinetuningTask
    tokenizer: PreTrainedTokenizerBase
    length: int
    train: Split
    evaluation: dict[str, Split]


def finetune(
    arguments: FinetuneArguments, run: FinetuneRunArguments, callbacks: Sequence[TrainerCallback] = ()
) -> FinetuneResult:
    """Fine-tunes, evaluates on whole sets and saves.

    Into `run.output_dir`: model, tokenizer, `all_results.json`, `eval_results.json`, checkpoints, `train_log.jsonl` and
    TensorBoard's files in `runs`, and what the task writes of its evaluation. `all_results.json` also names the metric
    to compare models by (`main_metric`) and holds its mean over the evaluated splits (`main_score`). For classification
    the metrics hold the share of the most frequent evaluation label (`eval_majority_accuracy`). Raises InputError for
    bad flags, files, columns or labels before any training.
    """
    check_finetuning(arguments)
    check_cuda_graphs(run)
    checkpoint = check_output_folder(run)
    task = read_task(arguments, run)
    source = encoder_folder(arguments.model_name_or_path) if arguments.model_name_or_path else None
    data = encode_task(task, arguments, run, source)
    set_seed(run.seed)
    if source is None:
        model = preset_model(task.auto_model, arguments.preset, data.tokenizer, task.configure)
    else:
        model = pretrained_model(task.auto_model, source, task.configure, arguments.from_scratch)
    check_length(model, data.length)
    callbacks = [*callbacks, *choose_best(arguments, run, data)]
    if checkpoint is None:
        clear_output_folder(run)
    trainer = FinetuningTrainer(callbacks=callbacks, **trainer_arguments(model, run, data))
    if trainer.is_world_process_zero():
        print(_summary(model, data, run), flush=True)
    return train_and_report(trainer, data, checkpoint)


def read_task(arguments: FinetuneArguments, run: FinetuneRunArguments) -> FinetuningTask:
    """The task's rows. Raises InputError for flags that don't go together, and for bad files, columns or labels."""
    with run.main_process_first(desc="reading the task"):
        task = select_task(arguments)
    task.workers = arguments.preprocessing_num_workers
    return task


def encode_task(
    task: FinetuningTask, arguments: FinetuneArguments, run: FinetuneRunArguments, source: str | None
) -> TaskData:
    """Features of the task's rows, by the tokenizer of the flags or else that of the model in `source`."""
    tokenizer = task_tokenizer(arguments, source)
    length = arguments.max_seq_length or task.max_length
    training, evaluated = task_rows(task, arguments)
    with run.main_process_first(desc="tokenising"):
        train = encode_split(task, training, arguments.max_train_samples, tokenizer, length, training=True)
        evaluation = {
            name: encode_split(task, rows, arguments.max_eval_samples, tokenizer, length, training=False)
            for name, rows in evaluated.items()
        }
    return TaskData(task, tokenizer, length, train, evaluation)


def task_rows(task: FinetuningTask, arguments: FinetuneArguments) -> tuple[object, dict[str, object]]:
    """The rows to train on, and by split those to evaluate on: the task's own, or a part of the training rows."""
    if arguments.held_out_samples is None:
        return task.train, task.evaluation
    training, held_out = _hold_out(task, arguments.held_out_samples)
    return training, {HELD_OUT: held_out}


def choose_best(arguments: FinetuneArguments, run: FinetuneRunArguments, data: TaskData) -> list[TrainerCallback]:
    """Prepares the run for keeping the best model and stopping early where the flags ask for that."""
    if arguments.best_on_dev or arguments.early_stopping_patience is not None:
        keep_best(run, data.evaluation, data.task.metric)
    if arguments.early_stopping_patience is not None:
        return [early_stopping(run, arguments.early_stopping_patience)]
    return []


def trainer_arguments(model: PreTrainedModel, run: FinetuneRunArguments, data: TaskData) -> dict[str, object]:
    """What a `FinetuningTrainer` takes beside callbacks."""
    return {
        "model": model,
        "args": run,
        "task": data.task,
        "train_dataset": data.train.features,
        "evaluation": data.evaluation,
        "data_collator": data.task.collator(data.tokenizer, data.length, run.cuda_graphs),
        "processing_class": data.tokenizer,
    }


def train_and_report(trainer: FinetuningTrainer, data: TaskData, checkpoint: str | None) -> FinetuneResult:
    """Trains, saves model and tokenizer, evaluates all splits and writes what came out; see `finetune`."""
    task, evaluation, run = data.task, data.evaluation, trainer.args
    metrics = trainer.train(resume_from_checkpoint=checkpoint).metrics
    trainer.save_model()
    evaluated = trainer.evaluate() if evaluation else {}
    evaluated |= _baselines(task, evaluation)
    score = main_score(evaluated, evaluation, task.metric)
    if trainer.is_world_process_zero():
        for name, split in evaluation.items():
            task.write_evaluation(Path(run.output_dir), name, split, trainer.evaluated[name])
        write_json(Path(run.output_dir, "eval_results.json"), evaluated)
        main = {} if score is None else {"main_metric": task.metric, "main_score": score}
        write_json(Path(run.output_dir, RESULTS), metrics | evaluated | main)
    return FinetuneResult(Path(run.output_dir), metrics | evaluated, task.metric, score, trainer.state.log_history)


def check_finetuning(arguments: FinetuneArguments) -> None:
    """Raises InputError for flags that don't go together or are out of range."""
    if (arguments.model_name_or_path is None) == (arguments.preset is None):
        raise InputError("give either --model_name_or_path or --preset")
    if arguments.preset and not (arguments.tokenizer_name or arguments.vocab_file):
        raise InputError("--preset has no tokenizer of its own: add --tokenizer_name or --vocab_file")
    if arguments.preset and arguments.from_scratch:
        raise InputError("--from_scratch goes with --model_name_or_path; a --preset has random weights anyway")
    if arguments.tokenizer_name and arguments.vocab_file:
        raise InputError("give --tokenizer_name or --vocab_file, not both")
    if arguments.max_seq_length is not None and arguments.max_seq_length < 4:
        raise InputError(f"--max_seq_length must be at least 4, not {arguments.max_seq_length}")
    check_counts(arguments)


def check_counts(arguments: FinetuneArguments) -> None:
    """Raises InputError for numbers of rows or processes below 1."""
    for name in ("max_train_samples", "max_eval_samples", "preprocessing_num_workers"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} must be at least 1, not {value}")
    held_out = arguments.held_out_samples
    if held_out is not None and not (0 < held_out < 1 or (held_out >= 1 and held_out == int(held_out))):
        raise InputError(f"--held_out_samples must be a number of rows from 1, or a share below 1, not {held_out:g}")


def task_tokenizer(arguments: FinetuneArguments, source: str | None) -> PreTrainedTokenizerBase:
    """That of the flags, or else that of the model in `source`."""
    if arguments.vocab_file:
        return tokenizer_from_vocabulary(read_vocabulary(arguments.vocab_file))
    return load_tokenizer(arguments.tokenizer_name or source)


def encode_split(
    task: FinetuningTask,
    rows: object,
    count: int | None,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    training: bool,
) -> Split:
    """The rows with their features; the first `count` of them, if that is given."""
    if count is not None:
        rows = task.part(rows, 0, count)
    return Split(rows, task.encode(rows, tokenizer, max_length, training))


def _hold_out(task: FinetuningTask, samples: float) -> tuple[object, object]:
    """The training rows but the last `samples` (below 1: of all, at least one), and those."""
    rows = len(task.train)
    count = max(1, round(samples * rows)) if samples < 1 else int(samples)
    if count >= rows:
        raise InputError(f"--held_out_samples {samples:g} leaves nothing to train on: there are {rows:,} training rows")
    return task.part(task.train, 0, rows - count), task.part(task.train, rows - count, rows)


def _baselines(task: FinetuningTask, evaluation: dict[str, Split]) -> dict[str, float]:
    found = {}
    for prefix, split in zip(_prefixes(evaluation), evaluation.values(), strict=True):
        found |= {f"{prefix}_{key}": value for key, value in task.baselines(split.rows).items()}
    return found


def main_score(evaluated: dict[str, float], evaluation: dict[str, Split], metric: str) -> float | None:
    """The mean of a metric over the evaluated splits, None without any."""
    if not evaluation:
        return None
    return sum(evaluated[f"{prefix}_{metric}"] for prefix in _prefixes(evaluation)) / len(evaluation)


def _prefixes(evaluation: dict[str, Split]) -> list[str]:
    return ["eval"] if len(evaluation) == 1 else [f"eval_{name}" for name in evaluation]


def _summary(model: PreTrainedModel, data: TaskData, run: FinetuneRunArguments) -> str:
    rows = {**describe_data(data), "parameters": f"{model.num_parameters():,}", "output": run.output_dir}
    return summary_lines(rows)


def describe_data(data: TaskData) -> dict[str, str]:
    """For the summary of a run: its task, and how many rows there are."""
    sizes = [f"train {len(data.train.rows):,}"]
    sizes += [f"{name} {len(split.rows):,}" for name, split in data.evaluation.items()]
    return {"task": f"{data.task.name} ({data.task.describe()})", "rows": ", ".join(sizes)}


def summary_lines(rows: dict[str, str]) -> str:
    """A line each, names aligned."""
    return "\n".join(f"{name:>10}: {value}" for name, value in rows.items())
