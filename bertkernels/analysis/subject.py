"""The model of an experiment and its task's data: read once in a process, for all its jobs."""

import contextlib
import copy
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import datasets
import numpy as np
import torch
from safetensors.torch import load_model, save_model
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase, set_seed
from transformers.trainer_utils import SaveStrategy

from bertkernels.analysis.arguments import AnalysisArguments, check_analysis
from bertkernels.analysis.changes import Modules, apply, read_change
from bertkernels.analysis.freezing import freeze
from bertkernels.analysis.jobs import Change
from bertkernels.analysis.layers import LayeredModel, adapt
from bertkernels.analysis.surgery import Surgery
from bertkernels.data.lengths import example_lengths
from bertkernels.errors import InputError
from bertkernels.processes.file_lock import file_lock
from bertkernels.training.distillation.teacher import model_folder
from bertkernels.training.finetune import check_finetuning, encode_split, read_task, task_rows, task_tokenizer
from bertkernels.training.finetuned_folder import finetuned_folder
from bertkernels.training.finetuning_model import check_length, encoder_folder, finetuned_model, pretrained_model
from bertkernels.training.finetuning_trainer import FinetuningTrainer
from bertkernels.training.task_labels import check_labels
from bertkernels.training.tasks.task import FinetuningTask, Split
from bertkernels.training.training_arguments import FinetuneRunArguments
from bertkernels.training.weights_digest import weights_digest

_INPUTS = ("input_ids", "token_type_ids", "attention_mask")
ADAPTED = "adapted.safetensors"
Batch = dict[str, torch.Tensor]
# Flags that leave results as they are, or that others stand for: digests of the model and of the data.
_FREE = (
    *("output_dir", "logging_dir", "overwrite_output_dir", "disable_tqdm", "run_name", "local_rank", "report_to"),
    *("do_train", "do_eval", "do_predict", "resume_from_checkpoint", "seed", "save_strategy", "save_steps"),
    *("save_total_limit", "logging_steps", "logging_strategy", "per_device_eval_batch_size", "use_cpu"),
    *(
        "dataloader_num_workers",
        "eval_strategy",
        "eval_steps",
        "torch_empty_cache_steps",
        "project",
        "trackio_space_id",
    ),
)


@dataclass(frozen=True)
class _Inputs:
    """A loader's batches without labels and what else the model is not given."""

    loader: Iterable[Batch]

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            yield {name: value for name, value in batch.items() if name in _INPUTS}


@dataclass(frozen=True)
class Score:
    """What a model reaches on the task.

    Attributes:
        main: the task's main metric, its mean over the evaluated splits; the more the better.
        metrics: everything that was measured, of several splits `SPLIT_METRIC`.
        outputs: the model's, by split, in the split's order.
    """

    main: float
    metrics: dict[str, float]
    outputs: dict[str, EvalPrediction]


class Subject:
    """A fine-tuned model and its task.

    Args:
        run: how it is fine-tuned after a change; the batch size of evaluations; whether on a GPU.
        folder: the experiment's, where an adapted model is kept.
        scored: whether the model's head is asked anything; otherwise it need not be trained.

    Raises:
        InputError: flags, files, model and task don't fit, or there are no evaluation rows.
    """

    def __init__(
        self, arguments: AnalysisArguments, run: FinetuneRunArguments, folder: Path, scored: bool = True
    ) -> None:
        check_analysis(arguments)
        check_finetuning(arguments)
        self.arguments, self.run, self._folder, self._scored = arguments, run, folder, scored
        self._base = [read_change(text) for text in arguments.changes or ()]
        self.source = _source(arguments.model_name_or_path, arguments.task_name, "--model_name_or_path")
        start = arguments.start_model_name_or_path
        self._start = None if start is None else _source(start, arguments.task_name, "--start_model_name_or_path")
        self.task: FinetuningTask = read_task(arguments, run)
        self._train_rows, self._evaluation_rows = task_rows(self.task, arguments)
        if not self._evaluation_rows:
            raise InputError("there are no rows to score a model on: add --validation_file")

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return task_tokenizer(self.arguments, self.source)

    @property
    def length(self) -> int:
        return self.arguments.max_seq_length or self.task.max_length

    @cached_property
    def train(self) -> Split:
        """The training rows, the first `--max_train_samples` of them."""
        return self._encode(self._train_rows, self.arguments.max_train_samples, training=True)

    @cached_property
    def evaluation(self) -> dict[str, Split]:
        """The rows that models are scored on, by split."""
        count = self.arguments.max_eval_samples
        return {name: self._encode(rows, count, training=False) for name, rows in self._evaluation_rows.items()}

    @cached_property
    def model(self) -> PreTrainedModel:
        """The model with its --changes, ready to be scored; the first who asks for one that is adapted trains it."""
        if self.arguments.adapt:
            self._digest  # noqa: B018  (of the weights that it was given with)
            self._adapted(self._given)
        return self._given.eval()

    @cached_property
    def layered(self) -> LayeredModel:
        """The model's blocks and sites; its weights may not be adapted yet."""
        return adapt(self._given)

    @cached_property
    def _given(self) -> PreTrainedModel:
        return self._begin(self.source)

    @cached_property
    def _digest(self) -> str:
        return weights_digest(self._given if self._scored else self._given.base_model)

    def settings(self) -> dict:
        """What makes scores of this subject comparable, as plain data."""
        found = {
            "model": self._digest,
            "changes": self._base,
            "adapted": self.arguments.adapt,
            "task": self.task.name,
            "evaluation": {name: _digest(split.features) for name, split in self.evaluation.items()},
        }
        if self.run.do_train or self.arguments.adapt:
            found |= {"train": _digest(self.train.features), "training": self._training_settings()}
        return found

    def score(self, changes: Sequence[Change] = (), modules: Modules | None = None) -> Score:
        """Of the model with these changes for the while, untrained."""
        with apply(Surgery(self.model), changes, modules):
            return self._score(self._evaluator())

    def finetuned_score(
        self, changes: Sequence[Change], seed: int, frozen: str | None = None, modules: Modules | None = None
    ) -> tuple[Score, dict[str, object]]:
        """Of a model with these changes that was fine-tuned then, and what there is to say of its training."""
        model = self._begin(self._start or self.source, seed)
        if self.arguments.adapt:
            load_model(model, self._folder / ADAPTED)
        with apply(Surgery(model), changes, modules):  # so that selectors still know blocks by their numbers
            return self._train(model, seed, frozen)

    def check(self, changes: Iterable[Change]) -> None:
        """Raises InputError for a change that the model can't have; of replaced sites, for one that is not there."""
        for change in changes:
            if change["do"] == "replace":
                self.layered.site(change["block"], change["site"])
            else:
                apply(Surgery(self._given), [change])

    def blocks_that_take(self, change: Callable[[int], Change]) -> list[int]:
        """The blocks in which surgery can make this change."""
        found = []
        for block in range(len(self.layered.blocks)):
            with contextlib.suppress(InputError):
                apply(Surgery(self._given), [change(block)])
                found.append(block)
        return found

    def batches(self, features: datasets.Dataset) -> Iterable[Batch]:
        """The model's arguments for these rows, in their order, without labels. Can be gone through again."""
        return _Inputs(self._evaluator().get_test_dataloader(features))

    def collate(self, rows: Sequence[Mapping[str, object]]) -> Batch:
        """The model's arguments for these rows, on the CPU, without labels."""
        plain = [{name: row[name] for name in _INPUTS if name in row} for row in rows]
        return dict(self.task.collator(self.tokenizer, self.length, False)(plain))

    def labelled_batches(self, features: datasets.Dataset, size: int) -> Iterator[Batch]:
        """The model's arguments for at most so many of these rows at once, with labels, so that it returns a loss."""
        for batch in self._evaluator().get_test_dataloader(features):
            parts = {name: value.split(size) for name, value in batch.items()}
            for part in zip(*parts.values(), strict=True):
                yield dict(zip(parts, part, strict=True))

    def _encode(self, rows: object, count: int | None, training: bool) -> Split:
        with self.run.main_process_first(desc="tokenising"):
            return encode_split(self.task, rows, count, self.tokenizer, self.length, training)

    def _begin(self, source: str, seed: int | None = None) -> PreTrainedModel:
        """The model in a folder, with the --changes. Weights that are new are drawn with the seed."""
        set_seed(self.run.seed if seed is None else seed)
        if self._scored and source == self.source:
            model = finetuned_model(self.task.auto_model, source)
            check_labels(source, model, self.task, self.arguments.label_scale)
        else:
            model = pretrained_model(self.task.auto_model, source, self.task.configure)
        check_length(model, self.length)
        model.to(self.run.device)
        if self._base:
            apply(Surgery(model), self._base).permanent()
        return model

    def _adapted(self, model: PreTrainedModel) -> None:
        """Gives a model with its changes the weights that were fine-tuned so, which one process trains for all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / ADAPTED
        with file_lock(self._folder / f".{ADAPTED}.lock"):
            if not file.is_file():
                self._train(model, self.run.seed, None)
                written = file.with_suffix(".writing")
                save_model(model, str(written))
                os.replace(written, file)
        load_model(model, file)

    def _train(self, model: PreTrainedModel, seed: int, frozen: str | None) -> tuple[Score, dict[str, object]]:
        selectors = ", ".join(part for part in (self.arguments.freeze, frozen) if part)
        said: dict[str, object] = {}
        if selectors:
            report = freeze(model, selectors)
            said = {"frozen": selectors, "trained_parameters": report.trains, "parameters": report.total}
        with tempfile.TemporaryDirectory() as folder:  # nothing of a run is kept but its score
            run = copy.copy(self.run)
            run.output_dir, run.seed, run.report_to, run.disable_tqdm = folder, seed, [], True
            run.save_strategy, run.load_best_model_at_end = SaveStrategy.NO, False
            trainer = self._trainer(model, run, self.train.features)
            with _without_output():
                trainer.train()
            return self._score(trainer), said | {"train_steps": trainer.state.global_step}

    def _evaluator(self) -> FinetuningTrainer:
        """A new one each time: training arguments that are read meanwhile, another experiment's say, reset the state
        that all of accelerate's share, and with it one that is there."""
        run = copy.copy(self.run)
        run.report_to, run.disable_tqdm = [], True
        return self._trainer(self.model, run, None)

    def _trainer(
        self, model: PreTrainedModel, run: FinetuneRunArguments, features: datasets.Dataset | None
    ) -> FinetuningTrainer:
        return FinetuningTrainer(
            model=model,
            args=run,
            task=self.task,
            train_dataset=features,
            evaluation={},
            data_collator=self.task.collator(self.tokenizer, self.length, False),
            processing_class=self.tokenizer,
        )

    def _score(self, trainer: FinetuningTrainer) -> Score:
        metrics, outputs = {}, {}
        for name, split in self.evaluation.items():
            outputs[name] = _outputs(trainer, split)
            prefix = "" if len(self.evaluation) == 1 else f"{name}_"
            found = self.task.metrics(split, outputs[name])
            metrics |= {f"{prefix}{metric}": float(value) for metric, value in found.items()}
        names = [self.task.metric] if len(outputs) == 1 else [f"{name}_{self.task.metric}" for name in outputs]
        return Score(float(np.mean([metrics[name] for name in names])), metrics, outputs)

    def _training_settings(self) -> dict:
        values = {name: value for name, value in self.run.to_dict().items() if name not in _FREE}
        start = None if self._start is None else weights_digest(self._begin(self._start).base_model)
        return json.loads(json.dumps(values | {"start": start, "freeze": self.arguments.freeze}, default=str))


def _source(name_or_path: str, task: str | None, flag: str) -> str:
    return encoder_folder(model_folder(finetuned_folder(name_or_path, task), flag))


def _outputs(trainer: FinetuningTrainer, split: Split) -> EvalPrediction:
    """The model's outputs in the split's order; the rows run from long to short, so that there is little padding."""
    order = np.argsort(-example_lengths(split.features), kind="stable")
    back = np.argsort(order)
    found = trainer.outputs(Split(split.rows, split.features.select(order)))

    def restore(values):
        return tuple(map(restore, values)) if isinstance(values, (tuple, list)) else values[back]

    return EvalPrediction(predictions=restore(found.predictions), label_ids=restore(found.label_ids))


def _digest(features: datasets.Dataset) -> str:
    """By which rows are known again."""
    digest = hashlib.sha256()
    for batch in features.iter(1000):
        digest.update(json.dumps(batch, sort_keys=True).encode())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def _without_output() -> Iterator[None]:
    """The Trainer prints its log where there is no progress bar; many short runs would bury their own progress."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
