"""How well a plan does with the weights that it inherits: accuracy on held-out pre-training batches."""

import json
from pathlib import Path as File

from transformers import AutoConfig, PreTrainedModel, PrinterCallback

from bertkernels.data.prepared.folder import Prepared
from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.electra import ElectraConfig, ElectraForPreTraining
from bertkernels.models.heads import EncoderForMaskedLM
from bertkernels.models.next_sentence import EncoderForMaskedLMAndNextSentence
from bertkernels.models.supernet import Path, set_path
from bertkernels.training.pretrain import TRAINERS, masking_collator
from bertkernels.training.pretrain_arguments import ELECTRA, MASKED_LM, MASKED_LM_NSP, PretrainArguments
from bertkernels.training.pretraining_trainer import PretrainingSet
from bertkernels.training.train_log import TrainLog
from bertkernels.training.training_arguments import PretrainRunArguments

LOSS = "loss"
# the first is the default
METRICS = {
    ELECTRA: ("rtd_accuracy", "rtd_auc", "masked_lm_accuracy", LOSS),
    MASKED_LM: ("masked_lm_accuracy", LOSS),
    MASKED_LM_NSP: ("masked_lm_accuracy", "next_sentence_accuracy", LOSS),
}
_CLASSES = {
    ELECTRA: ElectraForPreTraining,
    MASKED_LM: EncoderForMaskedLM,
    MASKED_LM_NSP: EncoderForMaskedLMAndNextSentence,
}


def read_supernet(folder: str) -> tuple[str, EncoderConfig | ElectraConfig]:
    """The objective that a supernet was trained with, and its configuration. Raises InputError for anything else."""
    if not File(folder, "config.json").is_file():
        raise InputError(f"--supernet {folder} holds no model: there is no config.json")
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, json.JSONDecodeError) as error:
        raise InputError(f"--supernet {folder}: {str(error).strip().splitlines()[0]}") from error
    named = (config.architectures or [""])[0]
    objective = next((name for name, model in _CLASSES.items() if model.__name__ == named), None)
    if objective is None or not isinstance(config, (EncoderConfig, ElectraConfig)):
        raise InputError(f"--supernet {folder} is no model of `bertkernels pretrain`, but {named or config.model_type}")
    network = config.discriminator if isinstance(config, ElectraConfig) else config
    if network.supernet_kinds is None:
        raise InputError(f"--supernet {folder} is no supernet: train one with `bertkernels pretrain --supernet_kinds`")
    return objective, config


def load_supernet(folder: str) -> PreTrainedModel:
    """The supernet with its heads. Raises InputError where weights are missing."""
    objective, _ = read_supernet(folder)
    try:
        model, report = _CLASSES[objective].from_pretrained(folder, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"--supernet {folder}: {str(error).strip().splitlines()[0]}") from error
    if report["missing_keys"]:
        raise InputError(f"--supernet {folder} lacks {len(report['missing_keys'])} weights")
    return model


def check_metric(metric: str | None, objective: str, config: EncoderConfig | ElectraConfig) -> str:
    """The metric, or the objective's own where none is named. Raises InputError for one that it does not have."""
    known = METRICS[objective]
    if metric is None:
        return known[0]
    if metric not in known:
        raise InputError(f"--fitness must be one of {', '.join(known)} for a supernet of {objective}, not {metric!r}")
    if objective == ELECTRA and metric == "masked_lm_accuracy":
        generator = config.generator
        if generator is None or generator.supernet_kinds is None:
            raise InputError("--fitness masked_lm_accuracy is the generator's, which is the same whatever the plan")
    return metric


class InheritedFitness:
    """Measures plans along their paths through a supernet, always on the same batches with the same masks and samples.

    Args:
        folder: of the supernet. prepared: examples, some of them held out; the first `examples` of those count.
        metric: which of the metrics is the fitness; of the loss the negative.
        output_dir: where nothing is written, but a trainer wants one.

    Raises:
        InputError: there is no held-out text, or it is of another vocabulary.
    """

    def __init__(
        self,
        folder: str,
        prepared: Prepared,
        metric: str,
        examples: int,
        output_dir: File,
        batch_size: int = 64,
        use_cpu: bool = False,
    ) -> None:
        objective, config = read_supernet(folder)
        check_held_out(prepared, config)
        self.metric, self._model = metric, load_supernet(folder)
        run = PretrainRunArguments(
            output_dir=str(output_dir),
            per_device_eval_batch_size=batch_size,
            use_cpu=use_cpu,
            disable_tqdm=True,
            report_to="none",
        )
        tokenizer = prepared.tokenizer()
        arguments = PretrainArguments(objective=objective, max_seq_length=prepared.max_length)
        held_out = prepared.validation.select(range(min(examples, len(prepared.validation))))
        self._trainer = TRAINERS[objective](
            model=self._model,
            args=run,
            eval_dataset=PretrainingSet(held_out),
            data_collator=masking_collator(arguments, tokenizer, run),
            processing_class=tokenizer,
        )
        for callback in (PrinterCallback, TrainLog):
            self._trainer.remove_callback(callback)

    def __call__(self, path: Path) -> tuple[float, dict[str, float]]:
        """The fitness, and everything that was measured, by name. Raises InputError for a path that does not fit."""
        set_path(self._model, path)
        measured = self._trainer.evaluate()
        metrics = {
            name.removeprefix("eval_"): float(value)
            for name, value in measured.items()
            if name.startswith("eval_") and not name.endswith(("_runtime", "_per_second", "_time"))
        }
        self._trainer.state.log_history.clear()
        return fitness_of(metrics, self.metric), metrics


def fitness_of(metrics: dict[str, float], metric: str) -> float:
    """The metric, the more the better."""
    return -metrics[metric] if metric == LOSS else metrics[metric]


def check_held_out(prepared: Prepared, config: EncoderConfig | ElectraConfig) -> None:
    """Raises InputError where the prepared text has nothing held out or does not fit the supernet."""
    if prepared.validation is None:
        raise InputError(f"--prepared_dir {prepared.folder} has no text held out: prepare it with --validation_share")
    network = config.discriminator if isinstance(config, ElectraConfig) else config
    vocabulary = len(prepared.tokenizer())
    if vocabulary > network.vocab_size:
        raise InputError(
            f"--prepared_dir {prepared.folder} has a vocabulary of {vocabulary:,}, the supernet of "
            f"{network.vocab_size:,}"
        )
    if prepared.max_length > network.max_position_embeddings:
        raise InputError(
            f"--prepared_dir {prepared.folder} has examples of {prepared.max_length} tokens, the supernet takes "
            f"{network.max_position_embeddings}"
        )
