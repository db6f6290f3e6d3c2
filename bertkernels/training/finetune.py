"""Fine-tuning on classification and regression of sentences and sentence pairs."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import datasets
import numpy as np
from transformers import (
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    set_seed,
)

from bertkernels.data.labelled_text import Columns, LabelledText
from bertkernels.data.tasks import Task, builtin_library_task, files_task, glue_folder_task, hub_task
from bertkernels.data.tokenizer import load_tokenizer, read_vocabulary, tokenizer_from_vocabulary
from bertkernels.errors import InputError
from bertkernels.training.classifier import encoder_folder, preset_classifier, pretrained_classifier
from bertkernels.training.graphed_steps import check_cuda_graphs
from bertkernels.training.metrics import classification_metrics, regression_metrics
from bertkernels.training.output_folder import check_output_folder, clear_output_folder
from bertkernels.training.resumable_trainer import ResumableTrainer
from bertkernels.training.training_arguments import FinetuneRunArguments

_WIDTHS = 32  # what widths of batches are multiples of where each gets a CUDA graph


@dataclass
class FinetuneArguments:
    """What to fine-tune, and on which task."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Folder of an encoder (of ours or Hugging Face's), or a hub name."}
    )
    from_scratch: bool = field(
        default=False,
        metadata={"help": "Only the configuration and tokenizer of --model_name_or_path, random weights."},
    )
    preset: str | None = field(
        default=None, metadata={"help": "A published encoder with random weights, in place of --model_name_or_path."}
    )
    tokenizer_name: str | None = field(default=None, metadata={"help": "Tokenizer, if not the model's."})
    vocab_file: str | None = field(default=None, metadata={"help": "A BERT vocab.txt (lower-case), for --preset."})
    text_source: Literal["builtin"] | None = field(
        default=None, metadata={"help": "builtin: which library does a docstring's paragraph come from?"}
    )
    train_file: str | None = field(default=None, metadata={"help": "Training rows: .tsv, .csv, .json or .jsonl."})
    validation_file: str | None = field(default=None, metadata={"help": "Evaluation rows, in the same form."})
    glue_dir: str | None = field(default=None, metadata={"help": "Folder with GLUE's task folders."})
    task_name: str | None = field(default=None, metadata={"help": "GLUE task: SST-2, MRPC, ..."})
    dataset_name: str | None = field(default=None, metadata={"help": "Name of a data set on the hub."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Its configuration."})
    sentence1_column: str | None = field(default=None, metadata={"help": "Column of the (first) text."})
    sentence2_column: str | None = field(default=None, metadata={"help": "Column of the second text."})
    label_column: str | None = field(default=None, metadata={"help": "Column of the label."})
    task_type: Literal["classification", "regression"] = field(
        default="classification", metadata={"help": "regression: labels are numbers (STS-B's always are)."}
    )
    max_seq_length: int = field(default=128, metadata={"help": "Longer inputs are cut, the longer text first."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on the first so many rows."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Evaluate on the first so many rows."})


@dataclass(frozen=True)
class FinetuneResult:
    """A finished run: the model's folder, metrics of training and evaluation (`eval_...`), the metric to compare models
    by (without `eval_`), and all log entries."""

    output_dir: Path
    metrics: dict[str, float]
    main_metric: str
    log: list[dict]


def finetune(
    arguments: FinetuneArguments, run: FinetuneRunArguments, callbacks: Sequence[TrainerCallback] = ()
) -> FinetuneResult:
    """Fine-tunes, evaluates on whole sets and saves.

    Into `run.output_dir`: model, tokenizer, `all_results.json`, `eval_results.json`, checkpoints, `train_log.jsonl` and
    TensorBoard's files in `runs`. For classification the metrics hold the share of the most frequent evaluation label
    (`eval_majority_accuracy`). Raises InputError for bad flags, files, columns or labels before any training.
    """
    _check(arguments)
    check_cuda_graphs(run)
    checkpoint = check_output_folder(run)
    with run.main_process_first(desc="reading the task"):
        task = _task(arguments)
    source = encoder_folder(arguments.model_name_or_path) if arguments.model_name_or_path else None
    tokenizer = _tokenizer(arguments, source)
    train = _encode(task, _first(task.train, arguments.max_train_samples), tokenizer, arguments.max_seq_length)
    evaluation = {
        name: _encode(task, _first(rows, arguments.max_eval_samples), tokenizer, arguments.max_seq_length)
        for name, rows in task.evaluation.items()
    }
    set_seed(run.seed)
    if source is None:
        model = preset_classifier(arguments.preset, tokenizer, task.labels)
    else:
        model = pretrained_classifier(source, task.labels, arguments.from_scratch)
    _check_length(model, arguments.max_seq_length)
    if checkpoint is None:
        clear_output_folder(run)
    only = next(iter(evaluation.values())) if len(evaluation) == 1 else evaluation or None
    trainer = ResumableTrainer(
        model=model,
        args=run,
        train_dataset=train,
        eval_dataset=only,
        data_collator=_collator(tokenizer, arguments.max_seq_length, run.cuda_graphs),
        processing_class=tokenizer,
        compute_metrics=_metrics_of(task),
        callbacks=list(callbacks),
    )
    if trainer.is_world_process_zero():
        print(_summary(task, model, train, evaluation, run), flush=True)
    metrics = trainer.train(resume_from_checkpoint=checkpoint).metrics
    trainer.save_model()
    evaluated = trainer.evaluate() if evaluation else {}
    evaluated |= _majorities(task, evaluation)
    if trainer.is_world_process_zero():
        _write_json(Path(run.output_dir, "eval_results.json"), evaluated)
        _write_json(Path(run.output_dir, "all_results.json"), metrics | evaluated)
    return FinetuneResult(Path(run.output_dir), metrics | evaluated, task.metric, trainer.state.log_history)


def _check(arguments: FinetuneArguments) -> None:
    if (arguments.model_name_or_path is None) == (arguments.preset is None):
        raise InputError("give either --model_name_or_path or --preset")
    if arguments.preset and not (arguments.tokenizer_name or arguments.vocab_file):
        raise InputError("--preset has no tokenizer of its own: add --tokenizer_name or --vocab_file")
    if arguments.preset and arguments.from_scratch:
        raise InputError("--from_scratch goes with --model_name_or_path; a --preset has random weights anyway")
    if arguments.tokenizer_name and arguments.vocab_file:
        raise InputError("give --tokenizer_name or --vocab_file, not both")
    sources = (arguments.text_source, arguments.train_file, arguments.glue_dir, arguments.dataset_name)
    if sum(source is not None for source in sources) != 1:
        raise InputError("give one of --train_file, --glue_dir, --dataset_name and --text_source builtin")
    if (arguments.glue_dir is None) != (arguments.task_name is None):
        raise InputError("--glue_dir and --task_name go together")
    if arguments.validation_file is not None and arguments.train_file is None:
        raise InputError("--validation_file goes with --train_file")
    if arguments.max_seq_length < 4:
        raise InputError(f"--max_seq_length must be at least 4, not {arguments.max_seq_length}")
    for name in ("max_train_samples", "max_eval_samples"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} must be at least 1, not {value}")


def _check_length(model: PreTrainedModel, max_length: int) -> None:
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is not None and max_length > limit:
        raise InputError(f"--max_seq_length {max_length} is above the model's max_position_embeddings ({limit})")


def _task(arguments: FinetuneArguments) -> Task:
    columns = Columns(arguments.sentence1_column, arguments.sentence2_column, arguments.label_column)
    regression = arguments.task_type == "regression"
    if arguments.text_source:
        return builtin_library_task()
    if arguments.glue_dir:
        return glue_folder_task(arguments.glue_dir, arguments.task_name)
    if arguments.dataset_name:
        return hub_task(arguments.dataset_name, arguments.dataset_config_name, columns, regression)
    return files_task(arguments.train_file, arguments.validation_file, columns, regression)


def _tokenizer(arguments: FinetuneArguments, source: str | None) -> PreTrainedTokenizerBase:
    if arguments.vocab_file:
        return tokenizer_from_vocabulary(read_vocabulary(arguments.vocab_file))
    return load_tokenizer(arguments.tokenizer_name or source)


def _first(rows: LabelledText, count: int | None) -> LabelledText:
    if count is None:
        return rows
    return LabelledText(**{name: values and values[:count] for name, values in vars(rows).items()})


def _encode(task: Task, rows: LabelledText, tokenizer: PreTrainedTokenizerBase, max_length: int) -> datasets.Dataset:
    encoded = tokenizer(rows.firsts, rows.seconds, truncation="longest_first", max_length=max_length)
    return datasets.Dataset.from_dict({**encoded, "label": task.targets(rows)})


def _collator(tokenizer: PreTrainedTokenizerBase, max_length: int, few_widths: bool) -> DataCollatorWithPadding:
    """Pads batches to their longest row; with `few_widths` on to a multiple of 32, or all to max_length."""
    if not few_widths:
        return DataCollatorWithPadding(tokenizer)
    if max_length % _WIDTHS == 0:
        return DataCollatorWithPadding(tokenizer, pad_to_multiple_of=_WIDTHS)
    return DataCollatorWithPadding(tokenizer, padding="max_length", max_length=max_length)


def _metrics_of(task: Task):
    def compute(prediction: EvalPrediction) -> dict[str, float]:
        scores = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
        if task.labels is None:
            return regression_metrics(scores.reshape(-1), prediction.label_ids.reshape(-1))
        return classification_metrics(np.argmax(scores, axis=-1), prediction.label_ids, len(task.labels))

    return compute


def _majorities(task: Task, evaluation: dict[str, datasets.Dataset]) -> dict[str, float]:
    if task.labels is None:
        return {}
    shares = {name: max(Counter(rows["label"]).values()) / len(rows) for name, rows in evaluation.items()}
    if len(shares) == 1:
        return {"eval_majority_accuracy": next(iter(shares.values()))}
    return {f"eval_{name}_majority_accuracy": share for name, share in shares.items()}


def _summary(
    task: Task,
    model: PreTrainedModel,
    train: datasets.Dataset,
    evaluation: dict[str, datasets.Dataset],
    run: FinetuneRunArguments,
) -> str:
    labels = "regression" if task.labels is None else ", ".join(task.labels)
    sizes = ", ".join([f"train {len(train):,}", *(f"{name} {len(rows):,}" for name, rows in evaluation.items())])
    rows = {
        "task": f"{task.name} ({labels})",
        "rows": sizes,
        "parameters": f"{model.num_parameters():,}",
        "output": run.output_dir,
    }
    return "\n".join(f"{name:>10}: {value}" for name, value in rows.items())


def _write_json(path: Path, content: dict) -> None:
    written = path.with_suffix(".writing")
    written.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(written, path)
