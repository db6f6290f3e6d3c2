"""How well genotypes do: trained from a supernet's weights (stages 1 and 2), or with them as they are (stage 3)."""

import contextlib
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path as File

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from bertkernels.errors import InputError
from bertkernels.models.genotype import parse_genotype
from bertkernels.models.inheritance import choose_genotype, inherited_student
from bertkernels.models.supernet import Path
from bertkernels.search.evaluation import FailedEvaluation
from bertkernels.search.ffn_arguments import FfnSearchArguments
from bertkernels.training.distill import distill
from bertkernels.training.distill_arguments import DistillArguments
from bertkernels.training.finetune import FinetuneResult, TaskData, main_score, trainer_arguments
from bertkernels.training.finetuning_trainer import FinetuningTrainer
from bertkernels.training.train_log import TrainLog
from bertkernels.training.training_arguments import FinetuneRunArguments

# (flags that go after those of the command) → all its arguments
Flags = Callable[[list[str]], tuple[FfnSearchArguments, DistillArguments, FinetuneRunArguments]]

_LOG = "candidates.log"
# what says on which task to distil
_OF_TASKS = (
    *("task_name", "glue_dir", "squad_dir", "tagging_dir", "train_file", "validation_file", "dataset_name"),
    *("text_source", "teacher_logits", "held_out_samples", "early_stopping_patience"),
)


class TrainedFitness:
    """Trains a candidate from the supernet's weights on text and the task, by distillation, and evaluates it.

    Every candidate starts afresh: with the same weights of the supernet, a head of the same seed, the same order of
    examples. What is trained is thrown away.

    Args:
        supernet: the encoder. flags: of the search; can be called again and again.
        place: a folder of this process's own. log: of what the runs print.
    """

    def __init__(
        self, supernet: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, flags: Flags, place: File, log: File
    ) -> None:
        self._supernet, self._tokenizer = supernet, tokenizer
        self._flags, self._place, self._log = flags, place, log

    def __call__(self, path: Path) -> tuple[float, dict[str, float]]:
        """Raises FailedEvaluation for a genotype that cannot be computed or whose training yields no numbers."""
        shutil.rmtree(self._place, ignore_errors=True)
        student = _student(self._supernet, path)
        start = self._place / "start"
        student.save_pretrained(start)
        self._tokenizer.save_pretrained(start)
        try:
            with _into(self._log):
                result = self._train(start)
            _check_finite(result.output_dir)
        finally:
            shutil.rmtree(self._place, ignore_errors=True)
        return result.main_score, _measured(result.metrics)

    def _train(self, start: File) -> FinetuneResult:
        search, arguments, _ = self._flags([])
        if search.text_steps:
            text = replace(arguments, **dict.fromkeys(_OF_TASKS), label_weight=0.0, best_on_dev=False)
            teacher = search.text_teacher_model_name_or_path or arguments.teacher_model_name_or_path
            text = replace(text, model_name_or_path=str(start), teacher_model_name_or_path=teacher)
            given = {
                "output_dir": self._place / "text",
                "max_steps": search.text_steps,
                "learning_rate": search.text_learning_rate,
                "per_device_train_batch_size": search.text_batch_size,
            }
            _, _, run = self._flags([part for name, value in given.items() for part in (f"--{name}", str(value))])
            start = distill(text, _quiet(run)).output_dir
            _check_finite(start)
        _, _, run = self._flags(["--output_dir", str(self._place / "task")])
        return distill(replace(arguments, model_name_or_path=str(start), prepared_dir=None), _quiet(run))


class SharedFitness:
    """Evaluates candidates with the weights that the supernet has, head included; nothing is trained.

    On several tasks the fitness is the mean of theirs, and what is measured has their names.

    Args:
        models: the supernet with each task's head, by the task's name; all have one encoder.
        tasks: their rows, by the same names.
    """

    def __init__(
        self, models: Mapping[str, PreTrainedModel], tasks: Mapping[str, TaskData], run: FinetuneRunArguments
    ) -> None:
        self._model = next(iter(models.values()))
        self._tasks = dict(tasks)
        self._trainers = {
            name: FinetuningTrainer(**trainer_arguments(model, _quiet(run), tasks[name]))
            for name, model in models.items()
        }
        for trainer in self._trainers.values():
            for callback in (PrinterCallback, TrainLog):
                trainer.remove_callback(callback)

    def __call__(self, path: Path) -> tuple[float, dict[str, float]]:
        """Raises FailedEvaluation for a genotype that cannot be computed."""
        try:
            choose_genotype(self._model, parse_genotype(path))
        except InputError as error:
            raise FailedEvaluation(f"cannot be computed: {error}") from error
        scores, measured = [], {}
        for name, trainer in self._trainers.items():
            evaluated, data = trainer.evaluate(), self._tasks[name]
            trainer.state.log_history.clear()
            scores.append(main_score(evaluated, data.evaluation, data.task.metric))
            measured |= {f"{name}_{key}" if name else key: value for key, value in _measured(evaluated).items()}
        return sum(scores) / len(scores), measured


def _student(supernet: PreTrainedModel, path: Path) -> PreTrainedModel:
    """The candidate's own model; tried on a few tokens, so that what cannot be computed is told from other errors."""
    try:
        student = inherited_student(supernet, parse_genotype(path))
        with torch.no_grad():
            student.eval()(torch.ones(1, 2, dtype=torch.long))
    except (InputError, RuntimeError) as error:
        raise FailedEvaluation(f"cannot be computed: {str(error).strip().splitlines()[0]}") from error
    return student


def _check_finite(folder: File) -> None:
    """Training that went astray leaves weights that are no numbers, and its accuracy is that of any constant answer."""
    weights = load_file(File(folder, "model.safetensors"))
    bad = next((name for name, x in weights.items() if not torch.isfinite(x).all()), None)
    if bad is not None:
        raise FailedEvaluation(f"not a number after training: {bad}")


def _quiet(run: FinetuneRunArguments) -> FinetuneRunArguments:
    """Without checkpoints, reports and bars, into whatever a killed run left in the folder."""
    run.save_strategy, run.eval_strategy = SaveStrategy.NO, IntervalStrategy.NO
    run.report_to, run.disable_tqdm, run.overwrite_output_dir, run.resume_from_checkpoint = [], True, True, None
    run.load_best_model_at_end = False
    return run


def _measured(metrics: dict[str, float]) -> dict[str, float]:
    """What an evaluation measured, by name. Raises FailedEvaluation where a loss is no number."""
    found = {
        name.removeprefix("eval_"): float(value)
        for name, value in metrics.items()
        if name.startswith("eval_") and not name.endswith(("_runtime", "_per_second", "_time"))
    }
    bad = next((name for name, value in found.items() if name.endswith("loss") and not math.isfinite(value)), None)
    if bad is not None:
        raise FailedEvaluation(f"not a number after training: the evaluation's {bad}")
    return found


@contextlib.contextmanager
def _into(file: File):
    with open(file, "a", encoding="utf-8") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        yield
